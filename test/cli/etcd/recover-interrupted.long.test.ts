// Ctrl-C on a terminal during `etcd recover --delete`: at each question, before anything is deleted, while an object is deleted, and
// while a resource is not listed yet. The exit code is 130, and the message says what was deleted.

import { readFileSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import type { Asked } from "../../etcd/stand-in-api.js";
import { openTerminal, type TerminalSession, type Typed } from "../../support/terminal.js";
import { waitFor } from "../../support/wait.js";
import { bad, useRecovery } from "./recovery-stage.js";

const stage = useRecovery();
const LONG = { timeoutMs: 50_000, intervalMs: 50 };
const CTRL_C = "\x03";
const QUESTION = "Type the number of these objects";
const CONFIRM = { prompt: QUESTION, answer: "2\r" };
const NEVER = { prompt: "\0", answer: "" };

const open = (typed: Typed, ...args: string[]): TerminalSession =>
  openTerminal(typed, stage.args("--delete", "--backup", stage.backup, ...args), stage.env);

/** Types Ctrl-C once, when the API server is asked this. */
function interruptAt(session: () => TerminalSession, at: (asked: Asked) => boolean, answer?: object): void {
  let isTyped = false;
  stage.api.hooks.instead = (asked) => {
    if (!at(asked)) return undefined;
    if (!isTyped) session().type(CTRL_C);
    isTyped = true;
    return answer === undefined ? undefined : { status: 500, body: answer };
  };
}

it.each([
  ["before the question", NEVER, "interrupted; nothing was deleted"],
  ["at the question", { prompt: QUESTION, answer: CTRL_C }, "no number was typed; nothing was deleted"],
])("Ctrl-C %s deletes nothing and says so", async (_when, typed, message) => {
  const session = open(typed);
  if (typed === NEVER) {
    interruptAt(
      () => session,
      ({ path }) => path === "/apis",
    );
  }
  const { code, stdout } = await session.ended;
  expect([code, stdout]).toEqual([130, expect.stringContaining(message)]);
  expect([stage.api.deletions, (await stage.badKeys()).length]).toEqual([[], 3]);
});

it("Ctrl-C at the question for a PIN deletes nothing and says so", async () => {
  const config = readFileSync(stage.kms.plugin.configFile, "utf8");
  const file = join(stage.folder, "without-pin.json");
  writeFileSync(file, config.replace(/&pin-source=[^"&\n]*/g, ""), { mode: 0o600 });
  const { code, stdout } = await open({ prompt: "PIN of token", answer: CTRL_C }, "--config", file).ended;
  const message = "no PIN was entered; nothing was deleted";
  expect([code, stdout]).toEqual([130, expect.stringContaining(message)]);
});

it("Ctrl-C during a deletion finishes it, and says how many objects were deleted", async () => {
  const session = open(CONFIRM);
  interruptAt(
    () => session,
    ({ method }) => method === "DELETE",
  );
  const { code, stdout } = await session.ended;
  expect([code, stdout]).toEqual([130, expect.stringContaining("interrupt again to exit now")]);
  expect(stdout).toContain("interrupted; deleted before that: 1 of 2 objects");
  expect(stdout).toMatch(new RegExp(`${bad("a-moved")} +deleted`));
  // An operator who continues on another machine would miss this record.
  const [run] = stage.runs().ids;
  expect(stdout).toContain(`recorded as run ${String(run)} in ${stage.auditFile} on ${hostname()}`);
  expect(stdout).toContain(`repeat the command on ${hostname()}, whose audit log names what was deleted`);
  expect(stage.api.deletions).toEqual([bad("a-moved")]);
  expect(stage.runs().ends).toEqual([expect.objectContaining({ outcome: "CANCELLED" })]);
});

it("Ctrl-C while a resource is not listed yet shows what was deleted", async () => {
  const session = open(CONFIRM);
  const body = { kind: "Status", message: "Internal error occurred: StorageError: corrupt object" };
  interruptAt(
    () => session,
    ({ path }) => path.startsWith("/api/v1/secrets?"),
    body,
  );
  const { code, stdout } = await session.ended;
  expect([code, stdout]).toEqual([
    130,
    expect.stringContaining("interrupted while a resource could not be listed"),
  ]);
  expect(stdout).toMatch(new RegExp(`${bad("b-junk")} +deleted`));
});

it("a second Ctrl-C says what is not known and exits, and the next run names what was deleted", async () => {
  const session = open(CONFIRM);
  stage.api.hooks.onDelete = async (name) => {
    if (name !== bad("a-moved")) return;
    session.type(CTRL_C);
    await waitFor(() => session.screen().includes("interrupt again to exit now"), LONG);
    session.type(CTRL_C);
    await session.ended;
  };
  const { code, stdout } = await session.ended;
  expect([code, stdout]).toEqual([130, expect.stringContaining("interrupted again: exiting now")]);
  expect(stdout).toContain("deleted before that: 0 of 2 objects");
  expect(stdout).toContain(
    `not known whether ${bad("a-moved")} was deleted, the audit log has its beginning`,
  );
  expect(stage.runs().ends).toEqual([]);
  await stage.api.idle();
  stage.api.hooks.onDelete = () => undefined;
  expect(await stage.outcomes()).toEqual({ "a-moved": "gone", "b-junk": "deleted", "c-unknown": "kept" });
});
