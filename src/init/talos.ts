// Patches of the machine configuration of Talos Linux, which has no other way to put files and static pods on a node.
// Written from the documentation of Talos 1.14; not tested. Only /var can be written there, kube-apiserver runs as user 65534, and the
// vendor's library has to be in the image. What the library writes, and the settings that `init` writes, are on the node's disk.
import { parse } from "yaml";
import { encryptionText } from "./api-server.js";
import { configurationText } from "./configuration.js";
import { readFolders } from "./folders.js";
import { HSM_NEEDS, type HsmNeeds } from "./hsm-needs.js";
import { podEnvironment } from "./pod.js";
import { fill, readTemplate } from "./templates.js";
import type { Answers } from "./values.js";

const API_SERVER_ID = 65534;
const SOCKET_FOLDER = "/run/kms-pkcs11";
const SETTINGS_MODE = 0o644;
const WRITTEN_MODE = 0o700;
const PLUGIN_ID = 10001;

interface Volume {
  readonly name: string;
  hostPath: { path: string; type: string };
}

interface Pod {
  spec: {
    securityContext: Record<string, unknown>;
    initContainers?: unknown[];
    containers: [
      {
        image: string;
        env: unknown[];
        volumeMounts: { name: string; mountPath: string; readOnly?: boolean }[];
        command?: unknown;
      },
    ];
    volumes: Volume[];
  };
}

/** Returns the documents of the patch. */
export function talosPatch(answers: Answers): object[] {
  return [
    {
      machine: {
        files: [
          fileOf("/etc/kms-pkcs11/config.yaml", configuration(answers)),
          ...HSM_NEEDS[answers.hsm].files.map(({ path, content }) => fileOf(path, content)),
        ],
        pods: [podOf(answers)],
      },
      cluster: { apiServer: { extraVolumes: [{ hostPath: SOCKET_FOLDER, mountPath: SOCKET_FOLDER }] } },
    },
    encryption(answers),
  ];
}

function fileOf(path: string, content: string): object {
  return { path: hostPathOf(path), permissions: SETTINGS_MODE, op: "create", content };
}

/** Returns where Talos can keep a path of the pod. */
function hostPathOf(path: string): string {
  return /^\/(var|run)\//.test(path) ? path : `/var${path}`;
}

/** The group of kube-apiserver may use the socket. */
function configuration(answers: Answers): string {
  const group = `  mode: "0660"\n  group: "${API_SERVER_ID}"\n`;
  return fill(configurationText(answers), /(?<=^ {2}path: .*\.sock\n)/m, group);
}

/** Talos refuses --encryption-provider-config among the arguments, and takes the file's content instead. */
function encryption(answers: Answers): object {
  const { resources } = parse(encryptionText(answers, "read")) as { resources: unknown };
  return { apiVersion: "v1alpha1", kind: "KubeEtcdEncryptionConfig", config: { resources } };
}

function podOf(answers: Answers): Pod {
  const pod = parse(readTemplate("static-pod/kms-pkcs11.yaml")) as Pod;
  const { spec } = pod;
  const [container] = spec.containers;
  const { groupId } = answers;
  spec.securityContext["supplementalGroups"] = [API_SERVER_ID, ...(groupId === undefined ? [] : [groupId])];
  if (answers.image !== undefined) container.image = answers.image;
  container.env = Object.entries(podEnvironment(answers)).map(([name, value]) => ({ name, value }));
  const mounts = nodeMounts(HSM_NEEDS[answers.hsm]);
  container.volumeMounts = [
    ...container.volumeMounts.filter(({ name }) => name !== "vendor-library"),
    ...mounts.map(({ name, path, writable }) => ({
      name,
      mountPath: path,
      ...(!writable && { readOnly: true }),
    })),
  ];
  spec.volumes = [
    ...spec.volumes.filter(({ name }) => name !== "vendor-library"),
    ...mounts.map(({ name, path, kind }) => ({ name, hostPath: { path, type: kind } })),
  ].map(onTalos);
  spec.initContainers = [
    ownFolders(
      container.image,
      mounts.filter(({ writable }) => writable),
    ),
  ];
  return pod;
}

interface NodeMount {
  readonly name: string;
  readonly path: string;
  readonly kind: string;
  readonly writable: boolean;
}

/** Returns what the library writes; the rest of its paths is in the image. */
function nodeMounts({ mounts }: HsmNeeds): NodeMount[] {
  return mounts
    .map((mount) => ({ ...mount, writable: mount.writable === true }))
    .filter(({ writable }) => writable);
}

function onTalos({ name, hostPath: { path, type } }: Volume): Volume {
  return {
    name,
    hostPath: { path: hostPathOf(path), type: type === "Directory" ? "DirectoryOrCreate" : type },
  };
}

/** Does what systemd-tmpfiles does elsewhere: the folders must belong to the plugin's user. */
function ownFolders(image: string, written: readonly NodeMount[]): object {
  const own = readFolders().folders.filter(({ uid }) => uid !== 0);
  const commands = own.map(({ path, mode, uid, gid }) =>
    path === SOCKET_FOLDER
      ? `chown ${uid}:${API_SERVER_ID} ${path} && chmod 0710 ${path}`
      : `chown ${uid}:${gid} ${path} && chmod ${mode.toString(8)} ${path}`,
  );
  commands.push(
    ...written.map(
      ({ path }) => `chown ${PLUGIN_ID}:${PLUGIN_ID} ${path} && chmod ${WRITTEN_MODE.toString(8)} ${path}`,
    ),
  );
  const mounts: Readonly<Record<string, string>> = {
    "/run/kms-pkcs11": "socket",
    "/var/lib/kms-pkcs11": "state",
    "/var/log/kms-pkcs11": "audit-log",
  };
  return {
    name: "own-folders",
    image,
    command: ["sh", "-ec", commands.join(" && ")],
    securityContext: {
      runAsNonRoot: false,
      runAsUser: 0,
      allowPrivilegeEscalation: false,
      capabilities: { drop: ["ALL"], add: ["CHOWN", "FOWNER"] },
    },
    volumeMounts: [
      ...own.flatMap(({ path }) => {
        const name = mounts[path];
        return name === undefined ? [] : [{ name, mountPath: path }];
      }),
      ...written.map(({ name, path }) => ({ name, mountPath: path })),
    ],
  };
}
