// `init --print`: the plan as a stream of YAML documents, for tools that bring files to nodes. It holds no PIN.
import { stringify } from "yaml";
import { VERSION } from "../version.js";
import { octal } from "./inspection.js";
import type { Planned } from "./plan.js";
import { talosPatch } from "./talos.js";
import type { Answers } from "./values.js";

const API_VERSION = "kms-pkcs11.dev/v1";

/** Returns the documents. For Talos they are patches of its machine configuration. */
export function documentStream(answers: Answers, parts: readonly Planned[]): string {
  const head = `# Made by kms-pkcs11 ${VERSION} init --print. The PIN is not in it.\n`;
  const documents = answers.distribution === "talos" ? talosPatch(answers) : parts.map(documentOf);
  return head + documents.map((one) => stringify(one, { lineWidth: 0 })).join("---\n");
}

function documentOf(part: Planned): object {
  if (part.kind === "link") {
    return { apiVersion: API_VERSION, kind: "NodeLink", path: part.path, target: part.target };
  }
  const { path, mode, uid, gid } = part;
  const owned = { path, mode: octal(mode), owner: `${uid}:${gid}` };
  switch (part.kind) {
    case "folder":
      return { apiVersion: API_VERSION, kind: "NodeFolder", ...owned };
    case "file":
      return { apiVersion: API_VERSION, kind: "NodeFile", ...owned, content: part.content };
    case "pin":
      return { apiVersion: API_VERSION, kind: "NodeSecret", ...owned, holds: "the token's user PIN" };
  }
}
