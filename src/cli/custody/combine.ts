// `kms-pkcs11 custody combine`: rebuilds the PIN from shares, for an emergency without a running plugin. The PIN goes to
// a new file or into a pipe, never to a terminal.
import { fstatSync, rmSync, writeFileSync } from "node:fs";
import { Option, type Command } from "commander";
import { Gathering } from "../../custody/gathering.js";
import { readSealedPin } from "../../custody/sealed-pin-file.js";
import { KmsError } from "../../errors.js";
import { codeOf } from "../../files/file-error.js";
import { printBytes, type Terminal } from "../output.js";
import { addClusterOption, configHelp } from "../settings-options.js";
import { enterShares } from "./enter-shares.js";
import { gatherShares } from "./gather-shares.js";
import { addSealedOptions, sealedPath, type SealedOptions } from "./sealed-option.js";

const STDOUT = 1;

interface CombineOptions extends SealedOptions {
  readonly out?: string;
}

const HELP = `
Use it only in an emergency: afterwards somebody has seen the PIN, so change it and split it again. A running plugin is unlocked
with 'unlock --share', where nobody sees it. A wrong share is named and does not spoil the others; no PIN attempt is made.

Example:
  kms-pkcs11 custody combine --sealed /etc/kms-pkcs11/pin.sealed | kms-pkcs11 keys list --pin-stdin`;

/** Adds `custody combine`. */
export function addCustodyCombineCommand(custody: Command, terminal: Terminal): void {
  addClusterOption(addSealedOptions(custody.command("combine")))
    .description("rebuild the PIN from enough shares, into a new file or a pipe")
    .option("-c, --config <file>", configHelp("--sealed"))
    .addOption(
      new Option(
        "--out <file>",
        "new file for the PIN, mode 0600; default: standard output, if it is a pipe",
      ),
    )
    .addHelpText("after", HELP)
    .action(async (_local, command: Command) => {
      const options = command.optsWithGlobals<CombineOptions>();
      requireDestination(options.out);
      const pin = await combinedPin(sealedPath(options), terminal);
      try {
        if (options.out === undefined) await printBytes(pin);
        else writePin(options.out, pin);
      } finally {
        pin.fill(0);
      }
    });
}

/** Requires a place for the PIN before custodians enter their shares. @throws KmsError CONFIG_INVALID */
function requireDestination(out: string | undefined): void {
  if (out !== undefined) {
    // Tries to make the file, without a PIN, and removes it: a command could take an empty file for the PIN.
    writePin(out, Buffer.alloc(0));
    rmSync(out);
    return;
  }
  if (process.stdout.isTTY) {
    throw new KmsError("CONFIG_INVALID", "the PIN is not shown on a terminal; give --out, or a pipe");
  }
  // The shell has created the file, usually readable by all users.
  if (fstatSync(STDOUT).isFile()) {
    throw new KmsError(
      "CONFIG_INVALID",
      "standard output is a file; give --out, whose file only you can read",
    );
  }
}

function writePin(path: string, pin: Buffer): void {
  try {
    writeFileSync(path, pin, { mode: 0o600, flag: "wx" });
  } catch (error) {
    throw new KmsError(
      "CONFIG_INVALID",
      `--out: ${path} cannot be made (${codeOf(error)}); give a new file`,
      error,
    );
  }
}

/** Takes shares until the sealed PIN opens; returns the PIN for the caller to zero. @throws KmsError INPUT_INVALID */
async function combinedPin(path: string, terminal: Terminal): Promise<Buffer> {
  const gathering = new Gathering(readSealedPin(path));
  const entries = enterShares();
  try {
    return await (await gatherShares(entries, [gathering], terminal)).open();
  } finally {
    gathering.clear();
    await entries.return(undefined);
  }
}
