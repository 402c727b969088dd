// `kms-pkcs11 serve`: runs the plugin until a signal stops it. SIGHUP reloads the configuration.
import { isatty } from "node:tty";
import type { Command } from "commander";
import { startPlugin, type Plugin } from "../compose/plugin.js";
import { notifySystemd, reloadBegins } from "../observability/service-manager.js";
import { Repeatable } from "./repeatable.js";
import { addServeOptions, configurationsFrom, type SettingsOptions } from "./settings-options.js";

/** Node.js waits only for its own children, but PID 1 inherits every orphan. */
const NO_INIT =
  "running as PID 1, so orphaned processes of the HSM's library stay as zombies; use an init such as tini, or docker run --init";

const HELP = `
SIGHUP reads the configuration again. log.level, cache.ttl, cache.outageTtl, cache.entries, the files and limits of audit, and a PIN
source that is a file or a credential take effect at once; the log names every other changed setting, which needs a restart.
An invalid configuration changes nothing, and a PIN that was refused is not tried again from another source. If the terminal
on which it was started is closed, SIGHUP stops the plugin.

Example:
  kms-pkcs11 serve --key 'pkcs11:token=kms;object=kms-kek?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/secrets/pin' \\
    --socket /run/kms-pkcs11/kms.sock --http 127.0.0.1:8090 --state-dir /var/lib/kms-pkcs11`;

/** Adds `serve`. */
export function addServeCommand(program: Command): void {
  addServeOptions(program.command("serve"))
    .addHelpText("after", HELP)
    .action(async (_local, command: Command) => {
      const options = command.optsWithGlobals<SettingsOptions>();
      const started = configurationsFrom(options, true);
      // Registered before the start: PID 1 ignores a signal without a listener, and any other process would end without
      // closing its parts.
      const reload = new Repeatable();
      const stopSignal = firstStopSignal(() => {
        reload.request();
      });
      const plugin = await startPlugin(started, process.env);
      if (process.pid === 1) plugin.log.warn({}, NO_INIT);
      void stopSignal.then(async (signal) => {
        plugin.log.info({ signal }, "stopping");
        await plugin.stop();
        process.exit(0);
      });
      await notify(plugin, "READY=1");
      reload.begin(async () => {
        await notify(plugin, ...reloadBegins());
        await plugin.reload(() => configurationsFrom(options, true));
        await notify(plugin, "READY=1");
      });
    });
}

async function notify({ log }: Plugin, ...assignments: readonly string[]): Promise<void> {
  const reason = await notifySystemd(process.env, ...assignments);
  if (reason !== undefined) log.warn({ reason }, `systemd cannot be notified of ${String(assignments[0])}`);
}

/** Resolves with the first signal that stops the plugin; the second one ends the process. */
function firstStopSignal(onReload: () => void): Promise<NodeJS.Signals> {
  const terminals = [0, 1, 2].filter((fd) => isatty(fd));
  return new Promise((resolve) => {
    let isStopping = false;
    const stop = (signal: NodeJS.Signals): void => {
      if (isStopping) process.exit(1);
      isStopping = true;
      resolve(signal);
    };
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, stop);
    process.on("SIGHUP", () => {
      // A terminal that has been closed is no longer one.
      const isHungUp = terminals.length > 0 && !terminals.some((fd) => isatty(fd));
      if (isHungUp) stop("SIGHUP");
      else if (!isStopping) onReload();
    });
  });
}
