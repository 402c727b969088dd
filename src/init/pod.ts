// The static pod: deploy/static-pod/kms-pkcs11.yaml, with the mounts, variables and group that the HSM's library needs.
import { libraryPath } from "./configuration.js";
import { HSM_NEEDS, type Mount } from "./hsm-needs.js";
import { fill, readTemplate } from "./templates.js";
import type { Answers } from "./values.js";

const IMAGE = /^ {6}image: .*$/m;
const AFTER_GROUP = /(?<=^ {4}runAsGroup: \d+\n)/m;
const AFTER_ENVIRONMENT = /(?<=^ {8}- \{ name: LD_LIBRARY_PATH, .*\n)/m;
const AFTER_MOUNTS = /(?<=^ {8}- \{ name: vendor-library, .*\n)/m;
/** The mount of the template for the vendor's library and the shared libraries that the image lacks. */
const SHARED_FOLDER = "/opt/hsm";

/**
 * Returns the manifest of the static pod.
 * @param groupId the number of the HSM's group on the node; undefined if the HSM has no group
 */
export function podText(answers: Answers, groupId: number | undefined): string {
  const { group } = HSM_NEEDS[answers.hsm];
  const mounts = mountsOf(answers);
  let text = readTemplate("static-pod/kms-pkcs11.yaml");
  if (answers.image !== undefined) text = fill(text, IMAGE, `      image: ${answers.image}`);
  if (group !== undefined && groupId !== undefined) {
    const why = `    # The group ${group}, whose number differs between nodes: getent group ${group}\n`;
    text = fill(text, AFTER_GROUP, `${why}    supplementalGroups: [${groupId}]\n`);
  }
  const variables = Object.entries(podEnvironment(answers));
  text = fill(
    text,
    AFTER_ENVIRONMENT,
    variables
      .map(([name, value]) => `        - { name: ${name}, value: ${JSON.stringify(value)} }\n`)
      .join(""),
  );
  text = fill(text, AFTER_MOUNTS, mounts.map(mountLine).join(""));
  return text + mounts.map(volumeLines).join("");
}

/** Returns the variables of the HSM's library in a pod. */
export function podEnvironment({ hsm }: Answers): Readonly<Record<string, string>> {
  const { environment, podEnvironment: differing } = HSM_NEEDS[hsm];
  return { ...environment, ...differing };
}

function mountsOf(answers: Answers): readonly Mount[] {
  const { mounts } = HSM_NEEDS[answers.hsm];
  const library = libraryPath(answers);
  const isMounted = [SHARED_FOLDER, ...mounts.map(({ path }) => path)].some((path) =>
    library.startsWith(`${path}/`),
  );
  return isMounted ? mounts : [{ name: "library", path: library, kind: "File" }, ...mounts];
}

function mountLine({ name, path, writable }: Mount): string {
  return `        - { name: ${name}, mountPath: ${path}${writable === true ? "" : ", readOnly: true"} }\n`;
}

function volumeLines({ name, path, kind }: Mount): string {
  return `    - name: ${name}\n      hostPath: { path: ${path}, type: ${kind} }\n`;
}
