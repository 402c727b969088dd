// Hands out the pages of the shares, one at a time: on the terminal, or as one HTML file each. Between two pages the
// operator presses Enter, and the terminal is cleared, so that each custodian sees one share.
import { closeSync, existsSync, fsyncSync, openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { SealedPin } from "../../custody/sealed-pin.js";
import type { Share } from "../../custody/share.js";
import { htmlPage, textPage } from "../../custody/share-page.js";
import { KmsError } from "../../errors.js";
import { folderProblem } from "../../files/ownership.js";
import { makePrivateFolder } from "../../files/private-folder.js";
import { syncFolder } from "../../files/state-file.js";
import { readHidden } from "../read-hidden.js";
import type { Terminal } from "../output.js";

/** Clears the screen and what the terminal has kept above it. */
const CLEAR = "\u{1b}[2J\u{1b}[3J\u{1b}[H";
/** More than a share, which somebody may type at the wrong prompt. */
const ENTER_BYTES = 1024;

/** Requires that pages can be shown or written, before anything is made. @throws KmsError CONFIG_INVALID */
export function requireOutput(folder: string | undefined): void {
  if (folder === undefined) {
    if (process.stdout.isTTY && process.stdin.isTTY) return;
    throw new KmsError("CONFIG_INVALID", "shares are shown on a terminal only; run it on one, or give --out");
  }
  makePrivateFolder(folder);
  const problem = folderProblem(folder, { danger: "read or replace the shares", forAnotherUser: false });
  if (problem !== undefined) throw new KmsError("CONFIG_INVALID", `--out: ${problem}`);
}

interface HandOut {
  readonly folder: string | undefined;
  readonly terminal: Terminal;
  /** What Ctrl-C means for the PIN and the shares, for the error. */
  readonly cancelled: string;
}

/** Hands out all shares, and zeroes each of them afterwards. @throws KmsError CANCELLED; NodeJS.ErrnoException */
export async function handOut(shares: readonly Share[], sealed: SealedPin, output: HandOut): Promise<void> {
  try {
    for (const share of shares) {
      const name = `share ${share.index} of ${shares.length}`;
      if (process.stdin.isTTY) {
        await pressEnter(
          `Only custodian ${share.index} may see the screen. Press Enter to show ${name}.`,
          output.cancelled,
        );
      }
      if (output.folder === undefined) await show(share, sealed, name, output.cancelled);
      else await write(share, sealed, output.folder, output);
      share.point.fill(0);
    }
  } finally {
    for (const { point } of shares) point.fill(0);
  }
}

async function show(share: Share, sealed: SealedPin, name: string, cancelled: string): Promise<void> {
  process.stdout.write(`${CLEAR}${textPage(share, sealed, process.stdout.columns)}\n`);
  try {
    await pressEnter(`Copy ${name} to paper or scan it. Press Enter to clear the screen.`, cancelled);
  } finally {
    process.stdout.write(CLEAR);
  }
}

async function write(
  share: Share,
  sealed: SealedPin,
  folder: string,
  { terminal, cancelled }: HandOut,
): Promise<void> {
  const path = join(folder, `share-${share.set}-${share.epoch}-${share.index}.html`);
  // "wx" neither follows a link nor replaces a page that may be the only copy.
  const file = openSync(path, "wx", 0o600);
  try {
    writeFileSync(file, htmlPage(share, sealed));
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  syncFolder(folder);
  terminal.err(`${path}: for custodian ${share.index} only; print or move it, then remove it`);
  if (!process.stdin.isTTY) return;
  await pressEnter("Press Enter when it has been printed or moved.", cancelled);
  if (existsSync(path)) terminal.err(`warning: ${path} is still there`);
}

/**
 * Waits for Enter alone: what is typed before it was meant for another prompt.
 * @param cancelled as for `readHidden`
 * @throws KmsError CANCELLED
 */
export async function pressEnter(prompt: string, cancelled: string): Promise<void> {
  for (let text = prompt; ; text = "Type nothing here; press Enter alone.") {
    const typed = await readHidden(text, ENTER_BYTES, cancelled);
    const isAlone = typed.length === 0;
    typed.fill(0);
    if (isAlone) return;
  }
}
