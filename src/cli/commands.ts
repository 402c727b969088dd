// The commands of the program: what its help says of each, and where each is. Listing them loads none.
import type { AddCommand } from "./subcommands.js";

/** A command, or a group of commands. */
export interface CommandRow {
  readonly name: string;
  /** What the program's help says of it. */
  readonly description: string;
  /** Its argument, as the help shows it. */
  readonly argument?: string;
  /** Has commands of its own and no options. */
  readonly isGroup?: true;
  readonly load: () => Promise<AddCommand>;
}

/** In the order of the help. Each is loaded when it is needed: every module that is loaded delays the output. */
export const COMMANDS: readonly CommandRow[] = [
  {
    name: "serve",
    description:
      "run the plugin; SIGTERM and SIGINT drain requests and remove the socket, SIGHUP reloads the configuration",
    load: async () => (await import("./serve.js")).addServeCommand,
  },
  {
    name: "init",
    description:
      "prepare a node: configuration, folders, PIN file, pod or unit, EncryptionConfigurations; then check",
    load: async () => (await import("./init/command.js")).addInitCommand,
  },
  {
    name: "check",
    description:
      "preflight as the plugin's user: config, files, sockets, token, PIN, keys, mechanism, round trip; exit 0 if every finding is ok or warn",
    load: async () => (await import("./check/command.js")).addCheckCommand,
  },
  {
    name: "config",
    description: "validate and print the configuration, and print its JSON Schema",
    isGroup: true,
    load: async () => (await import("./config/command.js")).addConfigCommand,
  },
  {
    name: "status",
    description:
      "call a running plugin over its socket; exit 0 if it answers healthz ok, 1 if not, 3 if it cannot be reached",
    load: async () => (await import("./status.js")).addStatusCommand,
  },
  {
    name: "unlock",
    description:
      "send the token's PIN to a running plugin; exit 0 if the token accepted it, 1 if not, 3 if no plugin can be reached",
    load: async () => (await import("./unlock.js")).addUnlockCommand,
  },
  {
    name: "lock",
    description: "have a running plugin forget its PIN and all seeds, and log out; exit 0 if it is locked",
    load: async () => (await import("./lock.js")).addLockCommand,
  },
  {
    name: "custody",
    description:
      "split the token's PIN among several custodians, check their shares, rebuild and renew the PIN",
    isGroup: true,
    load: async () => (await import("./custody/command.js")).addCustodyCommand,
  },
  {
    name: "evidence",
    description:
      "collect what an auditor asks for in one folder with a page, and check such a folder offline",
    isGroup: true,
    load: async () => (await import("./evidence/command.js")).addEvidenceCommand,
  },
  {
    name: "conformance",
    description:
      "test any KMS v2 plugin for the behaviour that kube-apiserver relies on; exit 0 if every 'must' rule holds, 1 if not, 3 if it cannot be reached",
    load: async () => (await import("./conformance.js")).addConformanceCommand,
  },
  {
    name: "console",
    description: "serve a read-only page about all nodes to this machine's browser, until Ctrl-C",
    load: async () => (await import("./console/command.js")).addConsoleCommand,
  },
  {
    name: "keys",
    description: "create, list, rotate, adopt and destroy the generations of the KEK on the token",
    isGroup: true,
    load: async () => (await import("./keys/command.js")).addKeysCommand,
  },
  {
    name: "rotation",
    description: "rotate the KEK with one command, from preflight to retirement; show and cancel a rotation",
    isGroup: true,
    load: async () => (await import("./rotation/command.js")).addRotationCommand,
  },
  {
    name: "approvals",
    description: "policies and approvals: several people decide which KEK becomes active or is destroyed",
    isGroup: true,
    load: async () => (await import("./approvals/command.js")).addApprovalsCommand,
  },
  {
    name: "audit",
    description: "verify the audit log",
    isGroup: true,
    load: async () => (await import("./audit.js")).addAuditCommand,
  },
  {
    name: "bench",
    description: "measure the AES-256-GCM core, the token, and a running plugin compared with another one",
    load: async () => (await import("./bench/command.js")).addBenchCommand,
  },
  {
    name: "etcd",
    description: "count, verify, print and migrate the objects in etcd or in a snapshot",
    isGroup: true,
    load: async () => (await import("./etcd/command.js")).addEtcdCommand,
  },
  {
    name: "drill",
    description:
      "rehearse disaster recovery on a copy: a snapshot, a restored token, a private etcd, plugin and API server; exit 0 if everything can be read, 1 if not",
    load: async () => (await import("./drill/command.js")).addDrillCommand,
  },
  {
    name: "completion",
    argument: "<shell>",
    description: "print the completion script of bash, zsh or fish",
    load: async () => (await import("./completion/command.js")).addCompletionCommand,
  },
  {
    name: "version",
    description: "print the versions of the plugin and of its runtime",
    load: async () => (await import("./version.js")).addVersionCommand,
  },
];
