// Checks settings that depend on each other, or that only `serve` requires. It sees the valid parts of a document that may
// have other problems, and adds none where one is reported already.
import type { Problems } from "./problems.js";
import type { ValidParts } from "./valid-parts.js";

/** Adds the problems of settings that do not fit together. @param serves whether the plugin is to run */
export function checkCombinations(draft: ValidParts, serves: boolean, problems: Problems): void {
  checkSocket(draft, serves, problems);
  if (serves) checkStateDir(draft, problems);
  checkAudit(draft, problems);
  checkApprovals(draft, problems);
}

function checkSocket({ socket }: ValidParts, isRequired: boolean, problems: Problems): void {
  const path = ["socket", "path"];
  if (isRequired && socket?.path === undefined && !problems.concern(["socket"])) {
    problems.add({
      at: path,
      text: "is missing; set it or --socket, such as unix:///run/kms-pkcs11/kms.sock",
    });
  }
  if (socket?.path?.abstract === true && socket.allowAbstract === false) {
    problems.add({
      at: path,
      text: "is an abstract socket, which has no access control; give a path, or set socket.allowAbstract to true",
    });
  }
  if (socket?.group !== undefined && socket.mode !== undefined && (socket.mode & 0o060) !== 0o060) {
    problems.add({
      at: ["socket", "group"],
      text: 'cannot connect with this socket.mode; set socket.mode to "0660"',
    });
  }
}

/** Requires a state directory: the record of refused PINs and of the published key_id must survive a restart. */
function checkStateDir({ stateDir }: ValidParts, problems: Problems): void {
  if (stateDir !== undefined || problems.concern(["stateDir"])) return;
  problems.add({
    at: ["stateDir"],
    text: "is missing; set it or --state-dir to a folder that survives restarts, such as /var/lib/kms-pkcs11",
  });
}

function checkAudit({ audit, stateDir }: ValidParts, problems: Problems): void {
  if (audit?.required === true && audit.file === undefined && !problems.concern(["audit", "file"])) {
    problems.add({
      at: ["audit", "file"],
      text: "is missing; set it, since audit.required is true",
    });
  }
  checkSinks(audit, problems);
  if (audit?.file === undefined || audit.keyFile !== undefined || stateDir !== undefined) return;
  if (!problems.concern(["stateDir"], ["audit", "keyFile"])) {
    problems.add({
      at: ["audit", "keyFile"],
      text: "is missing; set it, or set stateDir, in which a key is then created",
    });
  }
}

function checkSinks(audit: ValidParts["audit"], problems: Problems): void {
  const { file, syslog, ocsf } = audit ?? {};
  if (file === undefined && (syslog?.address !== undefined || ocsf?.file !== undefined)) {
    problems.add({
      at: ["audit", "file"],
      text: "is missing; set it, since sinks are sent what this file holds",
    });
  }
  if (file !== undefined && file === ocsf?.file) {
    problems.add({ at: ["audit", "ocsf", "file"], text: "is the audit log itself; give another file" });
  }
  const { address, certificate, key, ca, serverName } = syslog ?? {};
  if ((certificate === undefined) !== (key === undefined)) {
    const missing = certificate === undefined ? "certificate" : "key";
    problems.add({
      at: ["audit", "syslog", missing],
      text: "is missing; a client certificate needs audit.syslog.certificate and audit.syslog.key",
    });
  }
  const isTls = address?.kind === "tls";
  if (isTls || [certificate, key, ca, serverName].every((value) => value === undefined)) return;
  problems.add({
    at: ["audit", "syslog", "address"],
    text: "is not a server; ca, certificate, key and serverName need one such as tls://siem.example.com:6514",
  });
}

function checkApprovals({ approvals = {} }: ValidParts, problems: Problems): void {
  const { policy, root } = approvals;
  if ((policy === undefined) === (root === undefined)) return;
  const at = ["approvals", policy === undefined ? "policy" : "root"];
  if (problems.concern(at)) return;
  problems.add({
    at,
    text:
      policy === undefined
        ? "is missing; set it to the policy's path, since approvals.root is set"
        : "is missing; without it anybody who can write approvals.policy could make another policy",
  });
}
