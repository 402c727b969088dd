// `kms-pkcs11 rotation`: a whole rotation as one command.
import { commandGroup } from "../subcommands.js";

/** Adds the group `rotation`. */
export const addRotationCommand = commandGroup("rotation", [
  ["run", async () => (await import("./run.js")).addRotationRunCommand],
  ["status", async () => (await import("./status.js")).addRotationStatusCommand],
  ["abort", async () => (await import("./abort.js")).addRotationAbortCommand],
]);
