// The plugin's configuration for a node: the file of the HSM under deploy/hsm/, with the operator's names in its URI.
import { parse } from "yaml";
import { formatPkcs11Uri, parsePkcs11Uri, type Pkcs11Uri } from "../config/pkcs11-uri.js";
import { fill, readTemplate } from "./templates.js";
import type { Answers } from "./values.js";

const URI_LINE = /^ {2}uri: .*$/m;

/** Returns the text of config.yaml. */
export function configurationText(answers: Answers): string {
  const template = readTemplate(`hsm/${answers.hsm}.yaml`);
  return fill(template, URI_LINE, `  uri: ${JSON.stringify(formatPkcs11Uri(kekUri(answers)))}`);
}

/** Returns the URI of the KEK on the node. */
export function kekUri({ hsm, token, object, library }: Answers): Pkcs11Uri {
  const { keys } = parse(readTemplate(`hsm/${hsm}.yaml`)) as { keys: { uri: string } };
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
