// What shells offer after a TAB: the program's candidates, and the scripts of deploy/completion/ in real shells.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import type { Argument, Command, Option } from "commander";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { flagOf, takesValue } from "../../../src/cli/completion/position.js";
import { kindOf } from "../../../src/cli/completion/values.js";
import { createProgram } from "../../../src/cli/program.js";
import { runCommand } from "../../support/command.js";
import { MAIN } from "../../support/plugin-process.js";
import { waitFor } from "../../support/wait.js";

/** A limit for what hangs: a shell asks the program after each TAB. */
const LONG = { timeoutMs: 60_000 };
const KEY_IDS = ["0193aa.c0123456789abcdef0123456789abcdef", "0194bb.c0123456789abcdef0123456789abcdef"];
const folder = mkdtempSync(join(tmpdir(), "completion-"));
let node: Server;
let body = JSON.stringify({
  keys: [
    { keyId: KEY_IDS[0], state: "retired" },
    { keyId: KEY_IDS[1], state: "active" },
    { keyId: "$(reboot)", state: "active" },
  ],
});

beforeAll(async () => {
  symlinkSync(MAIN, join(folder, "kms-pkcs11"));
  node = createServer((_request, response) => response.end(body)).listen(0, "127.0.0.1");
  await once(node, "listening");
});
afterAll(() => {
  node.close();
  rmSync(folder, { recursive: true });
});

const address = (): string => `127.0.0.1:${(node.address() as AddressInfo).port}`;

/** Returns the values and the kind that the program prints for a line; the last word is the one at the cursor. */
async function offered(line: string): Promise<{ values: string[]; kind: string }> {
  const { code, stdout, stderr } = await runCommand(["__complete", ...line.split(" ")]);
  expect([code, stderr]).toEqual([0, ""]);
  const lines = stdout.trimEnd().split("\n");
  return { values: lines.slice(0, -1).map((one) => one.split("\t", 1)[0] ?? ""), kind: lines.at(-1) ?? "" };
}

it.each([
  ["st", ["status"]],
  ["keys de", ["destroy"]],
  ["help keys ro", ["rotate"]],
  ["-o json keys ro", ["rotate"]],
  ["keys list --out", ["--output"]],
  ["keys list -o json --out", []],
  ["keys list -o ", ["table", "json"]],
  ["check --mode=l", ["--mode=local-kek"]],
  ["check --mechanism aes-k", ["aes-kwp"]],
  ["completion z", ["zsh"]],
  ["nonsense ", []],
  ["keys nonsense ", []],
  ["keys destroy --i-understand-data-is-lost @", []],
])("'%s' is completed", async (line, values) => {
  expect(await offered(line)).toEqual({ values, kind: ":values" });
});

it.each([
  ["check --config ", ":files"],
  ["check --config=/etc/h", ":files"],
  ["approvals show ", ":files"],
  ["custody split --out ", ":folders"],
  ["check --as ", ":users"],
])("'%s' is completed with names that the shell knows", async (line, kind) => {
  expect(await offered(line)).toEqual({ values: [], kind });
});

it("every option that takes a value is completed, or takes text that nobody can guess", async () => {
  const free =
    /^<(M|N|address|digest|duration|hex|key|label|level|list|means|mode|ms|n|name=file|name=time|name|number|operation=n|prefix|reason|string|bytes|text|time|uri|url,...)>/;
  const unknown: string[] = [];
  const check = (value: Option | Argument, name: string, text: string): void => {
    const isKnown = value.argChoices !== undefined || kindOf(value) !== "values" || /key_id/.test(text);
    if (!isKnown && !free.test(text.replace(/^.*?(?=<)/, ""))) unknown.push(`${name} ${text}`);
  };
  const walk = (command: Command): void => {
    for (const option of command.options.filter(takesValue)) check(option, flagOf(option), option.flags);
    for (const argument of command.registeredArguments) {
      check(argument, command.name(), `<${argument.name()}>`);
    }
    command.commands.forEach(walk);
  };
  walk(await createProgram({ out: () => undefined, err: () => undefined, isInteractive: false }, []));
  expect(unknown).toEqual([]);
});

describe("key_ids", () => {
  const states = ["@standby", "@retired"];

  it("key_ids come from the plugins of --nodes, and only those that have their form", async () => {
    const { values } = await offered(`keys destroy --nodes http://${address()} `);
    expect(values).toEqual([...states, ...KEY_IDS]);
    expect((await offered(`keys destroy --nodes http://${address()} 0194`)).values).toEqual([KEY_IDS[1]]);
  });

  it("key_ids come from the HTTP address of the configuration, without its PIN", async () => {
    const config = join(folder, "config.yaml");
    const uri = "pkcs11:token=kms;object=kms-kek?module-path=/nowhere.so&pin-source=file:/nowhere";
    writeFileSync(
      config,
      `apiVersion: kms-pkcs11.dev/v1\nkind: PluginConfiguration\nkeys: { uri: "${uri}" }\nhttp: { address: "${address()}" }\n`,
    );
    expect((await offered(`keys destroy -c ${config} `)).values).toEqual([...states, ...KEY_IDS]);
  });

  it("nothing but states is offered if no plugin answers, or not as a plugin does", async () => {
    expect((await offered("keys destroy --nodes http://127.0.0.1:1 ")).values).toEqual(states);
    expect((await offered("keys destroy --nodes nonsense ")).values).toEqual(states);
    expect((await offered("keys destroy -c /nonexistent ")).values).toEqual(states);
    const before = body;
    for (const answer of ["", "[]", '{"keys":7}', '{"keys":[null]}', "x".repeat(2_000_000)]) {
      body = answer;
      expect((await offered(`keys destroy --nodes http://${address()} `)).values).toEqual(states);
    }
    body = before;
  });
});

describe("the scripts complete in an interactive", () => {
  const scripts = fileURLToPath(new URL("../../../deploy/completion/", import.meta.url));
  const SHELLS = {
    bash: { start: "bash --norc --noprofile -i", setup: `source ${scripts}kms-pkcs11.bash` },
    zsh: { start: "zsh -f -i", setup: `autoload -Uz compinit; compinit -u -D; source ${scripts}_kms-pkcs11` },
    fish: { start: "fish --no-config -i", setup: `source ${scripts}kms-pkcs11.fish` },
  };
  const isInstalled = (shell: string): boolean => spawnSync(shell, ["-c", ":"]).status === 0;

  /** Types a line with tabs, and returns the words that the shell would run. */
  async function typed(shell: keyof typeof SHELLS, line: string): Promise<string> {
    const { start, setup } = SHELLS[shell];
    const env = {
      ...process.env,
      TERM: "dumb",
      HOME: folder,
      PATH: `${folder}:${process.env["PATH"] ?? ""}`,
    };
    const child = spawn("script", ["-qec", start, "/dev/null"], { env });
    let shown = "";
    child.stdout.on("data", (chunk: Buffer) => (shown += chunk.toString()));
    child.stdin.write(`${setup}; printf '<%s>' ready\r`);
    await waitFor(() => shown.includes("<ready>"), LONG);
    // Ctrl-A: what was typed becomes the arguments of printf.
    child.stdin.write(`${line}\u0001printf '<%s>' \u0005\r`);
    await waitFor(() => /<kms-pkcs11>.*>/.test(shown), LONG);
    child.kill();
    return /<kms-pkcs11>(?:<[^>]*>)*/.exec(shown)?.[0] ?? "";
  }

  it.each(["bash", "zsh", "fish"] as const)("%s, if it is installed", async (shell) => {
    if (!isInstalled(shell)) {
      expect(shell).not.toBe("bash");
      return;
    }
    const words = ["kms-pkcs11", "keys", "destroy", "@retired", `--config=${folder}/kms-pkcs11`];
    expect(await typed(shell, `kms-pkcs11 keys des\t@ret\t--config=${folder}/kms\t`)).toBe(
      words.map((word) => `<${word}>`).join(""),
    );
  });
});
