// `kms-pkcs11 serve`: runs the plugin until a signal stops it.
import type { Command } from "commander";
import { startPlugin } from "../compose/plugin.js";
import { addServeOptions, settingsFrom, type SettingsOptions } from "./settings-options.js";

/** Node.js waits only for its own children, but PID 1 inherits every orphan. */
const NO_INIT =
  "running as PID 1, so orphaned processes of the HSM's library stay as zombies; use an init such as tini, or docker run --init";

/** Adds `serve`. */
export function addServeCommand(program: Command): void {
  addServeOptions(program.command("serve"))
    .addHelpText(
      "after",
      `
Example:
  kms-pkcs11 serve --key 'pkcs11:token=kms;object=kms-kek?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/secrets/pin' \\
    --socket /run/kms-pkcs11/kms.sock --http 127.0.0.1:8090 --state-dir /var/lib/kms-pkcs11`,
    )
    .action(async (_local, command: Command) => {
      const settings = settingsFrom(command.optsWithGlobals<SettingsOptions>(), true);
      // Registered before the start: PID 1 ignores a signal without a listener, and any other process would end without
      // closing its parts.
      const stopSignal = firstStopSignal();
      const plugin = await startPlugin(settings, process.env);
      if (process.pid === 1) plugin.log.warn({}, NO_INIT);
      void stopSignal.then(async (signal) => {
        plugin.log.info({ signal }, "stopping");
        await plugin.stop();
        process.exit(0);
      });
    });
}

/** Resolves with the first signal that stops the plugin; the second one ends the process. */
function firstStopSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let isStopping = false;
    const stop = (signal: NodeJS.Signals): void => {
      if (isStopping) process.exit(1);
      isStopping = true;
      resolve(signal);
    };
    // SIGHUP reloads nothing: it stops the plugin, so that its supervisor restarts it.
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, stop);
  });
}
