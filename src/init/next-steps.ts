// The commands that follow `init`, in order, for the operator's answers. The guides of deploy/ explain them.
import { createHash } from "node:crypto";
import { parse } from "yaml";
import { apiServerSettings, encryptionText } from "./api-server.js";
import { kekUri, libraryPath } from "./configuration.js";
import { HSM_NEEDS } from "./hsm-needs.js";
import type { NodeFacts } from "./node-facts.js";
import {
  apiServerFile,
  ENCRYPTION_IN_USE,
  ENCRYPTION_WRITE,
  hasPackagedUnit,
  needsNodeUser,
  PIN_FILE,
  PLUGIN_ID,
} from "./plan.js";
import { podEnvironment } from "./pod.js";
import { ENCRYPTED_PIN } from "./unit.js";
import { VERSION } from "../version.js";
import type { Answers } from "./values.js";

export interface NextStep {
  /** A shell command; undefined if the step is something else. */
  readonly command?: string;
  readonly why: string;
}

const SOCKET = "/run/kms-pkcs11/kms.sock";
const DIGEST_CHARACTERS = 12;
const MAKE_USER = "systemd-sysusers kms-pkcs11.conf";
const KUBERNETES_FOLDER = "/etc/kubernetes";
const USAGE_STEP: NextStep = {
  command: `kms-pkcs11 etcd usage --encryption-config ${ENCRYPTION_IN_USE}`,
  why: "see that no Secret is stored in clear (--help names the options for etcd)",
};
/** RKE2 imports what is in this folder when it starts. */
const RKE2_IMAGES = "/var/lib/rancher/rke2/agent/images";

/**
 * Returns a short digest of what must be the same on every node of a cluster: the KEK's name and both
 * EncryptionConfigurations.
 */
export function clusterDigest(answers: Answers): string {
  const shared = [
    kekUri(answers).object ?? "",
    // Without comments, which another release may word differently.
    parse(encryptionText(answers, "read")),
    parse(encryptionText(answers, "write")),
  ];
  return createHash("sha256").update(JSON.stringify(shared)).digest("hex").slice(0, DIGEST_CHARACTERS);
}

/** What the node already has. */
export interface Progress {
  readonly hasPin: boolean;
  /** A usable KEK is on the token. */
  readonly hasKek: boolean;
}

/** Returns what the operator does next. */
export function nextSteps(answers: Answers, facts: NodeFacts, { hasPin, hasKek }: Progress): NextStep[] {
  // Only a running unit has its PIN where the configuration says.
  const when = answers.runtime === "systemd" ? ", while the plugin runs" : "";
  const create = { command: "kms-pkcs11 keys create", why: `make the KEK: once, on one node${when}` };
  const status = {
    command: `kms-pkcs11 status --socket ${SOCKET} --round-trip --wait 60s`,
    why: "see the plugin encrypt and decrypt",
  };
  return [
    ...(hasKek ? [] : prepareHsm(answers, facts)),
    ...(hasPin ? [] : [pinStep(answers)]),
    ...startPlugin(answers, facts),
    ...environmentStep(answers),
    ...(hasKek ? [] : [create]),
    ...checkStep(answers),
    ...cloneStep(answers),
    ...(isNewCluster(answers, facts)
      ? [...startCluster(answers), status, USAGE_STEP]
      : [status, ...applySettings(answers), ...rewriteSteps(answers)]),
  ];
}

/** Returns whether kubeadm has not made a cluster on this node yet; false if the node cannot be read. */
function isNewCluster({ distribution, nodes }: Answers, facts: NodeFacts): boolean {
  const isKnown = facts.exists(KUBERNETES_FOLDER);
  return (
    distribution === "kubeadm" &&
    nodes === "one" &&
    isKnown &&
    !facts.exists(`${KUBERNETES_FOLDER}/admin.conf`)
  );
}

/** kubelet, which starts the pod of the plugin, runs from `kubeadm init` on. */
function startCluster(answers: Answers): NextStep[] {
  return [
    {
      command: `install -m 0600 ${ENCRYPTION_WRITE} ${ENCRYPTION_IN_USE}`,
      why: "let the API server of the new cluster write with the plugin from the beginning",
    },
    {
      command: `kubeadm init --config ${String(apiServerFile(answers))}`,
      why: "start the cluster; before that, add your own kubeadm settings to the file",
    },
  ];
}

function pinStep({ runtime, pin }: Answers): NextStep {
  const why = "type the token's user PIN, then Enter and Ctrl-D";
  if (pin === "encrypted-credential") {
    return { command: `systemd-creds encrypt --name=pin - ${ENCRYPTED_PIN}`, why };
  }
  const owned = runtime === "static-pod" ? "-m 0400 -o 10001 -g 10001" : "-m 0600";
  return { command: `install ${owned} /dev/stdin ${PIN_FILE}`, why };
}

/** The preflight of `init` cannot read an encrypted PIN. */
function checkStep({ pin }: Answers): NextStep[] {
  const why = "check everything, now that the unit provides the PIN";
  return pin === "encrypted-credential" ? [{ command: "kms-pkcs11 check", why }] : [];
}

function rewriteSteps({ nodes, distribution }: Answers): NextStep[] {
  const when =
    nodes === "several"
      ? "when the API server of every node reads what the plugin encrypts: let each write"
      : "when the API server reads what the plugin encrypts: let it write";
  const change =
    distribution === "talos"
      ? { why: `${when}: put the kms provider first in KubeEtcdEncryptionConfig` }
      : { command: `install -m 0600 ${ENCRYPTION_WRITE} ${ENCRYPTION_IN_USE}`, why: when };
  return [
    change,
    {
      command: `kms-pkcs11 etcd migrate --encryption-config ${ENCRYPTION_IN_USE}`,
      why: "rewrite what was stored in clear (--help names the options for etcd); 'etcd usage' then counts nothing outside the plugin",
    },
  ];
}

function prepareHsm(answers: Answers, facts: NodeFacts): NextStep[] {
  const { installs, prepare } = HSM_NEEDS[answers.hsm];
  const library = libraryPath(answers);
  const missing = facts.exists(library) ? [] : [{ why: `install ${installs}: ${library} does not exist` }];
  return [...missing, { why: `unless that is done already: ${prepare}` }];
}

function startPlugin(answers: Answers, facts: NodeFacts): NextStep[] {
  if (answers.runtime === "static-pod") return [...makeUser(answers, facts), ...importImage(answers)];
  const user = hasPackagedUnit(facts) ? [] : [MAKE_USER];
  return [
    {
      command: [...user, "systemctl daemon-reload", "systemctl enable --now kms-pkcs11"].join(" && "),
      why: "start the plugin",
    },
  ];
}

function makeUser(answers: Answers, facts: NodeFacts): NextStep[] {
  if (!needsNodeUser(answers) || facts.userName(PLUGIN_ID) !== undefined) return [];
  return [{ command: MAKE_USER, why: "make the plugin's user, since D-Bus admits only users of the node" }];
}

function importImage({ distribution, image = "the image" }: Answers): NextStep[] {
  const file = `kubernetes-kms-pkcs11-${VERSION}.tar`;
  const why = `bring ${image} to the node; kubelet then starts the pod`;
  switch (distribution) {
    case "rke2":
      return [
        { command: `install -D -m 0644 ${file} ${RKE2_IMAGES}/${file}`, why: `${why}, once RKE2 runs` },
      ];
    case "talos":
      return [];
    default:
      return [{ command: `ctr -n k8s.io images import ${file}`, why }];
  }
}

function environmentStep({ hsm, runtime, ...rest }: Answers): NextStep[] {
  // Commands ask systemd for the variables of the unit.
  if (runtime === "systemd") return [];
  const variables = Object.entries(podEnvironment({ hsm, runtime, ...rest })).map(
    ([name, value]) => `${name}=${value}`,
  );
  return variables.length === 0
    ? []
    : [{ command: `export ${variables.join(" ")}`, why: "the library's settings, for the commands below" }];
}

function cloneStep({ nodes }: Answers): NextStep[] {
  return nodes === "one"
    ? []
    : [
        {
          why: "clone the KEK to the token of every node, unless the tokens replicate; 'keys create' says how",
        },
      ];
}

function applySettings(answers: Answers): NextStep[] {
  const path = apiServerFile(answers);
  const settings = apiServerSettings(answers);
  if (path === undefined || settings === undefined) return [];
  const { target } = settings;
  if (target === undefined) {
    return [
      {
        why: `give ${path} to kubeadm; the comment in it says how, for a new cluster and for an existing one`,
      },
    ];
  }
  const unit = answers.distribution === "k3s" ? "k3s" : "rke2-server";
  return [
    {
      command: `install -D -m 0600 ${path} ${target} && systemctl restart ${unit}`,
      why: "let the API server read what the plugin encrypts",
    },
  ];
}
