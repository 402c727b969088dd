// The plugin's configuration for a node: the file of the HSM under deploy/, with the operator's names in its URI.
import { parse } from "yaml";
import { formatPkcs11Uri, parsePkcs11Uri, type Pkcs11Uri } from "../config/pkcs11-uri.js";
import { fill, readTemplate } from "./templates.js";
import type { Answers } from "./values.js";

const URI_LINE = /^ {2}uri: .*$/m;

/** Returns the text of config.yaml. */
export function configurationText(answers: Answers): string {
  return fill(templateOf(answers), URI_LINE, `  uri: ${JSON.stringify(formatPkcs11Uri(kekUri(answers)))}`);
}

function templateOf({ hsm }: Answers): string {
  return readTemplate(hsm === "other" ? "config.yaml" : `hsm/${hsm}.yaml`);
}

/** Returns the URI of the KEK on the node. */
export function kekUri(answers: Answers): Pkcs11Uri {
  const { token, object, library } = answers;
  const { keys } = parse(templateOf(answers)) as { keys: { uri: string } };
  return {
    ...parsePkcs11Uri(keys.uri),
    ...(token !== undefined && { token }),
    ...(object !== undefined && { object }),
    ...(library !== undefined && { modulePath: library }),
  };
}

/** Returns the path of the vendor's library on the node. */
export function libraryPath(answers: Answers): string {
  return kekUri(answers).modulePath ?? "";
}
