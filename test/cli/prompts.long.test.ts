// Prompts on a terminal: what Ctrl-C, Ctrl-D and text for another prompt do. Afterwards the terminal shows again what is
// typed, and nothing that was typed at a prompt reaches the shell.

import { execFileSync, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { beforeAll, describe, expect, it } from "vitest";

import { runCommand } from "../support/command.js";
import { usePlugin } from "../support/plugin-fixture.js";
import { MAIN } from "../support/plugin-process.js";
import { sharesIn } from "../support/share-pages.js";
import { waitFor } from "../support/wait.js";

const LONG = { timeoutMs: 30_000 };
const CONTROL_C = "\u0003";
const CONTROL_D = "\u0004";

/** The line that shows that a command waits, until it is erased. */
// eslint-disable-next-line no-control-regex -- what erases it
const ERASED = /[^\n]*\u001b\[1G\u001b\[0J/gu;

/** Never started. */
const kms = usePlugin({}, { start: false });
const at = (name: string): string => join(kms.token.folder, name);

/** A shell on a terminal that runs one command, then says its exit code and the terminal's mode, and reads a line. */
class TypingShell {
  readonly #child;
  readonly #closed: Promise<unknown>;
  #output = "";

  constructor(args: readonly string[]) {
    const command = [process.execPath, MAIN, ...args].map((word) => `'${word}'`).join(" ");
    const line = `${command}; echo "code $?"; stty -a | grep -oE -- '-?\\becho\\b'; IFS= read -r line; echo "shell: <$line>"`;
    this.#child = spawn("script", ["-qec", line, "/dev/null"], {
      env: { ...process.env, ...kms.token.env, NO_COLOR: "1" },
    });
    this.#child.stdout.on("data", (chunk: Buffer) => (this.#output += chunk.toString()));
    this.#closed = new Promise((resolve) => this.#child.once("close", resolve));
  }

  /** Waits for a text that was not there before, then types. */
  async type(prompt: string, keys: string): Promise<void> {
    await waitFor(() => this.#output.includes(prompt), { ...LONG, what: prompt });
    this.#output = this.#output.slice(this.#output.indexOf(prompt) + prompt.length);
    this.#child.stdin.write(keys);
  }

  /** Returns what was printed after the last prompt, when the shell has read a line. */
  async end(): Promise<string> {
    await waitFor(() => /code \d+\s+-?echo/.test(this.#output), LONG);
    this.#child.stdin.write("next\r");
    await this.#closed;
    return this.#output.replaceAll("\r", "").replaceAll(ERASED, "");
  }
}

/** What the shell prints after a command that ended with this exit code. */
const afterwards = (code: number): RegExp => new RegExp(`\ncode ${code}\necho\n(?:next\n)?shell: <next>\n$`);

let shares: string[];

beforeAll(async () => {
  const split = ["custody", "split", "--config", kms.plugin.configFile, "--threshold", "2", "--shares", "2"];
  const made = await runCommand([...split, "--sealed", at("sealed"), "--out", at("pages")], kms.token.env);
  expect(made.stderr).toContain("next: every custodian");
  shares = sharesIn(at("pages"));
});

describe("a prompt that shows nothing", () => {
  it("Ctrl-C ends it with exit code 130, and the message says what is unchanged", async () => {
    const shell = new TypingShell(["custody", "test", "--sealed", at("sealed")]);
    await shell.type("Share 1 (Enter alone ends): ", `kmsshare1${CONTROL_C}`);
    const output = await shell.end();
    expect(output).toContain("kms-pkcs11: cancelled; the token keeps its PIN\n");
    expect(output).toMatch(afterwards(130));
    expect(output).not.toContain("kmsshare1");
  });

  it("Ctrl-D ends the entry of shares, and cancels the entry of a PIN", async () => {
    const entry = new TypingShell(["custody", "test", "--sealed", at("sealed")]);
    await entry.type("Share 1 (Enter alone ends): ", `${shares[0] ?? ""}\r`);
    await entry.type("Share 2 (Enter alone ends): ", CONTROL_D);
    expect(await entry.end()).toMatch(/1 of 2 shares.*\ncode 0\n/s);

    const key = `pkcs11:token=${kms.token.label};object=kms-kek?module-path=${kms.token.modulePath}`;
    const pin = new TypingShell(["keys", "list", "--key", key, "--state-dir", at("state")]);
    await pin.type("PIN of token kms: ", CONTROL_D);
    const output = await pin.end();
    expect(output).toContain("kms-pkcs11: cancelled; no PIN was entered\n");
    expect(output).toMatch(afterwards(130));
  });

  it("a line that is too long is read to its end, so that the shell gets none of it", async () => {
    const shell = new TypingShell(["custody", "test", "--sealed", at("sealed")]);
    await shell.type("Share 1 (Enter alone ends): ", "x".repeat(2_000));
    await shell.type("", `${"y".repeat(2_000)}\r`);
    const output = await shell.end();
    expect(output).toContain("kms-pkcs11: the input is too long\n");
    expect(output).toMatch(afterwards(2));
    expect(output).not.toMatch(/xx|yy/);
  });
});

describe("custody renew", () => {
  it("a share typed where Enter is awaited shows no page and does not reach the shell", async () => {
    const [first = "", second = ""] = shares;
    const before = readFileSync(at("sealed"));
    const renew = ["custody", "renew", "--config", kms.plugin.configFile, "--sealed", at("sealed")];
    const shell = new TypingShell([...renew, "--out", at("new-pages")]);
    await shell.type("Share 1 (Enter alone ends): ", `${first}\r`);
    await shell.type("Share 2 (Enter alone ends): ", `${second}\r`);
    await shell.type("Press Enter to show share 1 of 2.", `${first}\r`);
    await shell.type("Type nothing here; press Enter alone.", CONTROL_C);
    const output = await shell.end();
    expect(output).toContain(
      "kms-pkcs11: cancelled; the token keeps its PIN, and the present shares stay valid; destroy the new pages\n",
    );
    expect(output).toMatch(afterwards(130));
    expect(output).not.toContain(first);
    expect(readFileSync(at("sealed"))).toEqual(before);
    expect(existsSync(`${at("sealed")}.next`)).toBe(false);
  });
});

describe("a question", () => {
  it("Ctrl-C at the question of 'keys destroy' destroys nothing and ends with exit code 130", async () => {
    const config = ["--config", kms.plugin.configFile];
    const made = await runCommand(
      ["keys", "rotate", "--activate-in", "1h", "-o", "json", ...config],
      kms.token.env,
    );
    const { created } = JSON.parse(made.stdout) as { created: { keyId: string } };
    const consent = ["--i-understand-data-is-lost", created.keyId];
    const shell = new TypingShell(["keys", "destroy", "@standby", ...consent, ...config]);
    await shell.type("Type the key_id to destroy it:", `01${CONTROL_C}`);
    const output = await shell.end();
    expect(output).toContain("\nkms-pkcs11: no key_id was typed; nothing was destroyed\n");
    expect(output).toMatch(afterwards(130));
    const { stdout } = await runCommand(["keys", "list", ...config], kms.token.env);
    expect(stdout).toMatch(/^standby /m);
  });

  it.each([CONTROL_C, CONTROL_D])("%j at a question of 'init' writes nothing", async (key) => {
    const shell = new TypingShell(["init"]);
    await shell.type("hsm: ", key);
    const output = await shell.end();
    expect(output).toContain("\nkms-pkcs11: cancelled; nothing was written\n");
    expect(output).toMatch(afterwards(130));
  });

  it.each([
    [CONTROL_C, 130, "cancelled; nothing was signed"],
    ["no\r", 1, '"yes" was not typed; nothing was signed'],
  ])("%j at the question of 'approvals policy sign' ends with exit code %i", async (keys, code, text) => {
    if (!existsSync(at("olga"))) {
      execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", at("olga")]);
      const init = ["approvals", "policy", "init", at("policy.json"), "--cluster", "c"];
      const people = ["--approver", `olga=${at("olga.pub")}`];
      expect(await runCommand([...init, ...people, "--threshold", "policy=1"])).toMatchObject({ code: 0 });
    }
    const policy = readFileSync(at("policy.json"));
    const shell = new TypingShell(["approvals", "policy", "sign", at("policy.json"), "-i", at("olga")]);
    await shell.type('Type "yes" to sign this:', keys);
    const output = await shell.end();
    expect(output).toContain(`kms-pkcs11: ${text}\n`);
    expect(output).toMatch(afterwards(code));
    expect(readFileSync(at("policy.json"))).toEqual(policy);
  });
});
