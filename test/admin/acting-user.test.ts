// Root's commands act as the plugin's user, so that a library that keeps objects in files makes none that the plugin cannot
// read. As another user than root, the cases are skipped.

import { execFileSync, spawn } from "node:child_process";
import { chmodSync, chownSync, lstatSync, mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";

import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { actingEnvironment, actingUser, warnOfUnknownUser } from "../../src/admin/acting-user.js";
import { loadSettings } from "../../src/config/load.js";
import { folderClosedTo } from "../../src/files/closed-folder.js";
import { runCommand } from "../support/command.js";
import { silentOperator } from "../support/operator.js";
import { waitFor } from "../support/wait.js";
import { MAIN } from "../support/plugin-process.js";
import { createSoftHsm, type SoftHsm } from "../support/softhsm.js";

/** No user of the system. */
const SOMEBODY = 4242;
const isRoot = process.geteuid?.() === 0;
const canRead = folderClosedTo(MAIN, { uid: SOMEBODY, gid: SOMEBODY, groups: [] }) === undefined;

let token: SoftHsm;
let stateDir: string;
let key: string;

beforeAll(() => {
  token = createSoftHsm();
  stateDir = join(token.folder, "state");
  mkdirSync(stateDir, { mode: 0o700 });
  key = `pkcs11:token=kms;object=kms-kek?module-path=${token.modulePath}&pin-source=file:${token.pinFile}`;
});

afterAll(() => {
  token.remove();
});

function giveTo(uid: number): void {
  chmodSync(token.folder, 0o755);
  chmodSync(join(token.folder, "softhsm2.conf"), 0o644);
  for (const folder of [stateDir, join(token.folder, "tokens")]) {
    execFileSync("chown", ["-R", `${uid}:${uid}`, folder]);
  }
}

function ownersOfObjects(): number[] {
  const files = readdirSync(join(token.folder, "tokens"), { recursive: true, encoding: "utf8" });
  return [...new Set(files.map((file) => lstatSync(join(token.folder, "tokens", file)).uid))];
}

const settingsWith = (flags: { stateDir?: string }) =>
  loadSettings({ flags: { key, ...flags }, env: {}, serves: false });

describe.runIf(isRoot && canRead)("a token of another user", () => {
  beforeAll(() => {
    giveTo(SOMEBODY);
    // The PIN stays root's, as with LoadCredential=.
    chownSync(token.pinFile, 0, 0);
    chmodSync(token.pinFile, 0o400);
  });

  it("the owner of a token store can read the objects that root's command stores", async () => {
    const made = await runCommand(["keys", "create", "--key", key, "--state-dir", stateDir], token.env);
    expect(made).toMatchObject({ code: 0 });
    expect(made.stderr.split("\n")).toContain(`acting as uid ${SOMEBODY}, the owner of ${stateDir}`);
    expect(ownersOfObjects()).toEqual([SOMEBODY]);
  });

  it("--as accepts a user's name or number", async () => {
    const list = ["keys", "list", "--key", key, "--as"];
    const asOwner = await runCommand([...list, String(SOMEBODY)], token.env);
    expect(asOwner).toMatchObject({ code: 0, stderr: `acting as uid ${SOMEBODY}, as --as says\n` });
    const asNobody = await runCommand([...list, "nobody"], token.env);
    expect(asNobody.code).toBe(3);
    expect(asNobody.stderr).toMatch(/acting as nobody \(uid \d+\), as --as says\n/);
  });

  it("--as root acts as root", async () => {
    const args = ["keys", "list", "--key", key, "--state-dir", stateDir, "--as", "root"];
    expect(await runCommand(args, token.env)).toMatchObject({ code: 0, stderr: "" });
  });
});

describe.runIf(isRoot)("the user whom root's commands act as", () => {
  it("the acting user is the caller without a state directory, and if root owns it", () => {
    giveTo(0);
    expect(actingUser(settingsWith({}), silentOperator())).toBeUndefined();
    expect(actingUser(settingsWith({ stateDir }), silentOperator())).toBeUndefined();
  });

  it("without a state directory root acts as itself, with a warning if it makes a key", () => {
    const lines: string[] = [];
    const settings = settingsWith({ stateDir: join(stateDir, "missing") });
    expect(actingUser(settings, silentOperator(lines))).toBeUndefined();
    warnOfUnknownUser(settings, silentOperator(lines));
    expect(lines).toEqual([
      expect.stringMatching(/^acting as root, since .*missing does not exist yet; .*--as USER$/),
    ]);
  });

  it.runIf(canRead)("the acting user has the system's groups and home, and is reported once", () => {
    const settings = { ...settingsWith({}), actAs: "nobody" };
    const lines: string[] = [];
    const user = actingUser(settings, silentOperator(lines));
    expect(actingUser(settings, silentOperator(lines))).toEqual(user);
    const groups = execFileSync("id", ["-G", "nobody"], { encoding: "utf8" }).trim().split(" ").map(Number);
    expect(user).toMatchObject({ name: "nobody", groups });
    expect(lines).toHaveLength(1);
    const env = { HOME: "/root", XDG_RUNTIME_DIR: "/run/user/0", SOFTHSM2_CONF: "/x" };
    expect(actingEnvironment(user, env)).toEqual({
      HOME: user?.home,
      USER: "nobody",
      LOGNAME: "nobody",
      SOFTHSM2_CONF: "/x",
    });
  });

  it.runIf(canRead)(
    "the acting user also has the groups of its running processes, which a unit may add",
    async () => {
      giveTo(SOMEBODY);
      const words = [`--reuid=${SOMEBODY}`, `--regid=${SOMEBODY}`, "--groups=4243,4244", "sleep", "600"];
      const plugin = spawn("setpriv", words, { stdio: "ignore" });
      try {
        const groups = () => actingUser(settingsWith({ stateDir }), silentOperator())?.groups;
        await waitFor(() => groups()?.includes(4244), { timeoutMs: 20_000 });
        expect(groups()).toEqual([4243, 4244]);
      } finally {
        plugin.kill("SIGKILL");
      }
    },
  );

  it("the acting user gets variables of the unit that the caller does not set", () => {
    const environment = { SOFTHSM2_CONF: "/unit", P11_KIT_DEBUG: "all" };
    const user = { uid: SOMEBODY, gid: SOMEBODY, groups: [], home: "/", environment };
    const acting = actingEnvironment(user, { SOFTHSM2_CONF: "/caller" });
    expect(acting).toMatchObject({ SOFTHSM2_CONF: "/caller", P11_KIT_DEBUG: "all" });
  });

  it("the user that --as names must exist", () => {
    const settings = { ...settingsWith({}), actAs: "no-such-user" };
    expect(() => actingUser(settings, silentOperator())).toThrow(/--as: there is no user "no-such-user"/);
  });
});

it("a folder is closed to a user whom its mode keeps out", () => {
  const folder = join(token.folder, "closed");
  mkdirSync(folder);
  chmodSync(token.folder, 0o755);
  const file = join(folder, "file");
  mkdirSync(file);
  const { uid, gid } = statSync(folder);
  chmodSync(folder, 0o750);
  const somebody = { uid: SOMEBODY, gid: SOMEBODY, groups: [SOMEBODY] };
  expect(folderClosedTo(file, somebody)).toBe(folder);
  expect(folderClosedTo(file, { ...somebody, gid })).toBeUndefined();
  expect(folderClosedTo(file, { ...somebody, groups: [SOMEBODY, gid] })).toBeUndefined();
  expect(folderClosedTo(file, { ...somebody, uid })).toBeUndefined();
  expect(folderClosedTo(dirname(file), somebody)).toBeUndefined();
  rmSync(folder, { recursive: true });
});
