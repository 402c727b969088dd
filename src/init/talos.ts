// Patches of the machine configuration of Talos Linux, which has no other way to put files and static pods on a node.
// Written from the documentation of Talos 1.14; not tested. Only /var can be written there, kube-apiserver runs as user 65534, and the
// vendor's library has to be in the image.
import { parse } from "yaml";
import { encryptionText } from "./api-server.js";
import { configurationText } from "./configuration.js";
import { readFolders } from "./folders.js";
import { podEnvironment } from "./pod.js";
import { fill, readTemplate } from "./templates.js";
import type { Answers } from "./values.js";

const API_SERVER_ID = 65534;
const HOST_FOLDER = "/var/etc/kms-pkcs11";
const SOCKET_FOLDER = "/run/kms-pkcs11";

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
        volumeMounts: { name: string; mountPath: string }[];
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
          {
            path: `${HOST_FOLDER}/config.yaml`,
            permissions: 0o644,
            op: "create",
            content: configuration(answers),
          },
        ],
        pods: [podOf(answers)],
      },
      cluster: { apiServer: { extraVolumes: [{ hostPath: SOCKET_FOLDER, mountPath: SOCKET_FOLDER }] } },
    },
    encryption(answers),
  ];
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
  spec.securityContext["supplementalGroups"] = [API_SERVER_ID];
  if (answers.image !== undefined) container.image = answers.image;
  container.env = Object.entries(podEnvironment(answers)).map(([name, value]) => ({ name, value }));
  container.volumeMounts = container.volumeMounts.filter(({ name }) => name !== "vendor-library");
  spec.volumes = spec.volumes.filter(({ name }) => name !== "vendor-library").map(onTalos);
  spec.initContainers = [ownFolders(container.image)];
  return pod;
}

function onTalos({ name, hostPath }: Volume): Volume {
  const path = hostPath.path.replace(/^\/etc\/kms-pkcs11/, HOST_FOLDER);
  return {
    name,
    hostPath: { path, type: hostPath.type === "Directory" ? "DirectoryOrCreate" : hostPath.type },
  };
}

/** Does what systemd-tmpfiles does elsewhere: the folders must belong to the plugin's user. */
function ownFolders(image: string): object {
  const own = readFolders().folders.filter(({ uid }) => uid !== 0);
  const commands = own.map(({ path, mode, uid, gid }) =>
    path === SOCKET_FOLDER
      ? `chown ${uid}:${API_SERVER_ID} ${path} && chmod 0710 ${path}`
      : `chown ${uid}:${gid} ${path} && chmod ${mode.toString(8)} ${path}`,
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
    volumeMounts: own.flatMap(({ path }) => {
      const name = mounts[path];
      return name === undefined ? [] : [{ name, mountPath: path }];
    }),
  };
}
