// `kms-pkcs11 completion`: prints what makes a shell complete the commands, from the files that the packages install.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Argument, type Command } from "commander";
import { KmsError } from "../../errors.js";
import type { Terminal } from "../output.js";

const FILES = { bash: "kms-pkcs11.bash", zsh: "_kms-pkcs11", fish: "kms-pkcs11.fish" } as const;

/** Adds `completion`. */
export function addCompletionCommand(program: Command, terminal: Terminal): void {
  program
    .command("completion")
    .addArgument(new Argument("<shell>", "the shell").choices(Object.keys(FILES)))
    .addHelpText(
      "after",
      `
The .deb and the .rpm install these files where the shells look for them. The shells complete commands, options, their values,
files, and the key_ids that the node's plugin serves on its HTTP address. That needs no PIN and no login.

Examples:
  kms-pkcs11 completion bash > /usr/share/bash-completion/completions/kms-pkcs11
  kms-pkcs11 completion zsh > "\${fpath[1]}/_kms-pkcs11"
  kms-pkcs11 completion fish > ~/.config/fish/completions/kms-pkcs11.fish
  source <(kms-pkcs11 completion bash)`,
    )
    .action((shell: keyof typeof FILES) => {
      terminal.out(scriptFor(shell).trimEnd());
    });
}

/** @throws KmsError INTERNAL if the installation lacks the file */
function scriptFor(shell: keyof typeof FILES): string {
  const path = fileURLToPath(new URL(`../../../deploy/completion/${FILES[shell]}`, import.meta.url));
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new KmsError("INTERNAL", `${path} is missing; install the plugin again`, error);
  }
}
