// Everything that `init` puts on a node, in the order in which it is written: folders first, then files that nothing
// reads by itself, and the static pod's manifest last, since kubelet starts it at once. Touches no file.
import { POD_MANIFEST, RKE2_POD_MANIFEST } from "../config/location.js";
import { KmsError } from "../errors.js";
import { apiServerSettings, encryptionText } from "./api-server.js";
import { configurationText } from "./configuration.js";
import { readFolders } from "./folders.js";
import { HSM_NEEDS } from "./hsm-needs.js";
import type { NodeFacts } from "./node-facts.js";
import { podText } from "./pod.js";
import { readTemplate } from "./templates.js";
import { dropInText, ENCRYPTED_PIN } from "./unit.js";
import { valuesText, type Answers } from "./values.js";

export const CONFIGURATION = "/etc/kms-pkcs11/config.yaml";
/** The operator's answers, for the next run and for other nodes. */
export const ANSWERS = "/etc/kms-pkcs11/init.yaml";
export const PIN_FILE = "/etc/kms-pkcs11/credentials/pin";
export const ENCRYPTION_FOLDER = "/etc/kubernetes/encryption";
/** The file that kube-apiserver reads. */
export const ENCRYPTION_IN_USE = `${ENCRYPTION_FOLDER}/encryption-configuration.yaml`;
export const ENCRYPTION_READ = `${ENCRYPTION_FOLDER}/encryption-configuration-read.yaml`;
export const ENCRYPTION_WRITE = `${ENCRYPTION_FOLDER}/encryption-configuration-write.yaml`;
const UNIT = "kms-pkcs11.service";
/** The user of the image, and of the unit unless the node has given it another number. */
export const PLUGIN_ID = 10001;
const PLUGIN_USER = "kms-pkcs11";
const CREDENTIALS = "/etc/kms-pkcs11/credentials";

interface Owned {
  readonly path: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

export type PlannedFolder = Owned & {
  readonly kind: "folder";
  /** Root's, and not the plugin's alone: an existing one stays as it is. */
  readonly isShared?: true;
};
export type PlannedFile = Owned & {
  readonly kind: "file";
  readonly content: string;
  /** The operator changes this file later: an existing one is kept. */
  readonly isStart?: true;
};
export type PlannedPin = Owned & { readonly kind: "pin"; readonly isEncrypted: boolean };
export interface PlannedLink {
  readonly kind: "link";
  readonly path: string;
  readonly target: string;
}
export type Planned = PlannedFolder | PlannedFile | PlannedPin | PlannedLink;

export interface Plan {
  readonly parts: readonly Planned[];
  /** What the operator should know about the node. */
  readonly warnings: readonly string[];
}

/** Returns the plan for a node. @throws KmsError CONFIG_INVALID if the number of the HSM's group is not known */
export function planNode(answers: Answers, facts: NodeFacts): Plan {
  const isPod = answers.runtime === "static-pod";
  return {
    parts: [
      ...(isPod ? podFolders() : unitFolders(facts)),
      file(ANSWERS, valuesText(answers)),
      file(CONFIGURATION, configurationText(answers)),
      ...HSM_NEEDS[answers.hsm].files.map(({ path, content }) => file(path, content)),
      ...encryptionFiles(answers),
      ...apiServerFiles(answers),
      pinOf(answers),
      ...(isPod ? podFiles(answers, facts) : unitFiles(answers, facts)),
    ],
    warnings: warningsOf(answers, facts),
  };
}

function file(path: string, content: string, mode = 0o644): PlannedFile {
  return { kind: "file", path, content, mode, uid: 0, gid: 0 };
}

function podFolders(): Planned[] {
  const { folders, links } = readFolders();
  return [
    ...folders.map((folder): PlannedFolder => ({
      kind: "folder",
      ...folder,
      ...(folder.uid === 0 && folder.gid === 0 && { isShared: true }),
    })),
    ...links.map((link): PlannedLink => ({ kind: "link", ...link })),
  ];
}

/** Returns the folders that systemd would make at the unit's start, for the commands before it. */
function unitFolders(facts: NodeFacts): Planned[] {
  const uid = facts.userId(PLUGIN_USER) ?? PLUGIN_ID;
  const gid = facts.groupId(PLUGIN_USER) ?? uid;
  const own = readFolders().folders.filter((folder) => folder.uid === PLUGIN_ID);
  return [
    ...own.map((folder): PlannedFolder => ({ kind: "folder", ...folder, uid, gid })),
    { kind: "folder", path: CREDENTIALS, mode: 0o700, uid: 0, gid: 0 },
  ];
}

function pinOf({ runtime, pin }: Answers): PlannedPin {
  if (pin === "encrypted-credential") {
    return { kind: "pin", path: ENCRYPTED_PIN, mode: 0o400, uid: 0, gid: 0, isEncrypted: true };
  }
  const owned =
    runtime === "static-pod"
      ? { mode: 0o400, uid: PLUGIN_ID, gid: PLUGIN_ID }
      : { mode: 0o600, uid: 0, gid: 0 };
  return { kind: "pin", path: PIN_FILE, ...owned, isEncrypted: false };
}

function encryptionFiles(answers: Answers): Planned[] {
  const [read, write] = [encryptionText(answers, "read"), encryptionText(answers, "write")];
  return [
    file(ENCRYPTION_READ, read, 0o600),
    file(ENCRYPTION_WRITE, write, 0o600),
    { ...file(ENCRYPTION_IN_USE, read, 0o600), isStart: true },
  ];
}

/** Returns where `init` writes the distribution's settings for the API server; undefined if there are none. */
export function apiServerFile(answers: Answers): string | undefined {
  return apiServerSettings(answers) && `/etc/kms-pkcs11/api-server/${answers.distribution}.yaml`;
}

function apiServerFiles(answers: Answers): Planned[] {
  const path = apiServerFile(answers);
  const settings = apiServerSettings(answers);
  return path === undefined || settings === undefined ? [] : [file(path, settings.text, 0o600)];
}

/** Returns where kubelet reads static pods. */
function manifestPath({ distribution }: Answers): string {
  return distribution === "rke2" ? RKE2_POD_MANIFEST : POD_MANIFEST;
}

function podFiles(answers: Answers, facts: NodeFacts): Planned[] {
  return [
    ...(needsNodeUser(answers) ? [userFile()] : []),
    file("/etc/tmpfiles.d/kms-pkcs11.conf", readTemplate("static-pod/tmpfiles.conf")),
    file(manifestPath(answers), podText(answers, hsmGroupId(answers, facts)), 0o600),
  ];
}

/** Returns whether the node has to know the user of a pod. Units always have a user that it knows. */
export function needsNodeUser({ hsm, distribution, runtime }: Answers): boolean {
  return runtime === "static-pod" && distribution !== "talos" && HSM_NEEDS[hsm].needsKnownUser === true;
}

function userFile(): PlannedFile {
  return file("/etc/sysusers.d/kms-pkcs11.conf", readTemplate("systemd/sysusers.conf"));
}

function hsmGroupId({ hsm, groupId, distribution }: Answers, facts: NodeFacts): number | undefined {
  const { group, installs } = HSM_NEEDS[hsm];
  // On Talos, the library and its group are in the image.
  if (group === undefined || distribution === "talos") return undefined;
  const id = groupId ?? facts.groupId(group);
  if (id !== undefined) return id;
  throw new KmsError(
    "CONFIG_INVALID",
    `the number of the group ${group} is not known; install ${installs} on the node first, or give groupId in the values`,
  );
}

/** A package of the plugin has installed the unit and its user already. */
export function hasPackagedUnit(facts: NodeFacts): boolean {
  return ["/usr/lib/systemd/system", "/lib/systemd/system"].some((folder) =>
    facts.exists(`${folder}/${UNIT}`),
  );
}

function unitFiles(answers: Answers, facts: NodeFacts): Planned[] {
  const own = hasPackagedUnit(facts)
    ? []
    : [userFile(), file(`/etc/systemd/system/${UNIT}`, readTemplate(`systemd/${UNIT}`))];
  const dropIn = dropInText(answers);
  return [...own, ...(dropIn === undefined ? [] : [file(`/etc/systemd/system/${UNIT}.d/hsm.conf`, dropIn)])];
}

function warningsOf(answers: Answers, facts: NodeFacts): string[] {
  const { hsm, runtime } = answers;
  const found: string[] = [];
  const { group, installs } = HSM_NEEDS[hsm];
  const name = facts.userName(PLUGIN_ID);
  if (name !== undefined && name !== PLUGIN_USER) {
    found.push(
      `user id ${PLUGIN_ID}, with which the plugin runs, belongs to ${name} on this node, who could use its socket and read its PIN; give ${name} another id`,
    );
  }
  if (runtime === "systemd" && group !== undefined && facts.groupId(group) === undefined) {
    found.push(
      `the group ${group} does not exist yet, and the unit does not start without it; install ${installs}`,
    );
  }
  if (needsNodeUser(answers) && name === undefined) {
    found.push(
      `this node does not know user id ${PLUGIN_ID} yet, whose connections D-Bus therefore closes; run 'systemd-sysusers kms-pkcs11.conf' when init has written that file, then init again`,
    );
  }
  return found;
}
