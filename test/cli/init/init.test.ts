// `kms-pkcs11 init` as an operator runs it: what it shows and refuses, that the PIN appears nowhere, and what a closed
// terminal leaves behind.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { runCommand } from "../../support/command.js";
import { MAIN } from "../../support/plugin-process.js";
import { makeFolder } from "../../support/token.js";

const VALUES = `apiVersion: kms-pkcs11.dev/v1
kind: InitValues
hsm: yubihsm2
distribution: kubeadm
runtime: systemd
nodes: one
`;
const PIN = "0001never-shown";

let folder: string;
let values: string;
let root: string;

beforeEach(() => {
  folder = makeFolder("init");
  values = join(folder, "values.yaml");
  root = join(folder, "root");
  writeFileSync(values, VALUES);
  spawnSync("mkdir", [root]);
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

const init = (args: readonly string[], input = "") =>
  runCommand(["init", "--values", values, ...args], {}, input);

it("a dry run shows every file and writes nothing", async () => {
  const { code, stdout } = await init(["--dry-run", "--root", root]);
  expect(code).toBe(0);
  expect(stdout).toMatch(/new +\/etc\/kms-pkcs11\/config\.yaml {2}0644 0:0\n {4}\| # YubiHSM 2/);
  expect(stdout).toMatch(/cluster digest [0-9a-f]{12}: the same on every node/);
  const { stdout: json } = await init(["--dry-run", "--root", root, "-o", "json"]);
  expect(JSON.parse(json)).toMatchObject({
    clusterDigest: expect.stringMatching(/^[0-9a-f]{12}$/) as string,
  });
  expect(readdirSync(root)).toEqual([]);
});

it("init without a terminal and without values says what to give", async () => {
  expect(await runCommand(["init", "--dry-run"])).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/not a terminal, so init cannot ask; give --values FILE/) as string,
  });
});

it("init reports all problems of the values with their positions", async () => {
  writeFileSync(values, VALUES.replace("yubihsm2", "yubihsm3") + "pim: file\n");
  expect(await init(["--dry-run"])).toEqual({
    code: 2,
    stdout: "",
    stderr: `kms-pkcs11: ${values}:3:1: hsm is not valid; give softhsm, luna, cloudhsm, nshield, yubihsm2, tpm2, other
${values}:7:1: this is not a value of init; did you mean pin?\n`,
  });
});

it("--print for Talos needs no node, and writing to one is refused", async () => {
  writeFileSync(values, VALUES.replace("kubeadm", "talos").replace("systemd", "static-pod"));
  expect(await init(["--print"])).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/kind: KubeEtcdEncryptionConfig/) as string,
  });
  expect(await init(["--dry-run"])).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/run init --print/) as string,
  });
});

describe.runIf(process.getuid?.() === 0)("as root", () => {
  it("init writes the PIN from standard input, and shows it nowhere", async () => {
    const { code, stdout, stderr } = await init(["--root", root, "--pin-stdin"], `${PIN}\n`);
    expect(code).toBe(0);
    expect(stdout + stderr).not.toContain(PIN);
    expect(readFileSync(join(root, "etc/kms-pkcs11/credentials/pin"), "utf8")).toBe(PIN);
    expect(stdout).toMatch(/1\. install the packages yubihsm-pkcs11/);
  });

  it("init leaves the PIN out of an image unless it is given, and says how to add it", async () => {
    const { code, stdout } = await init(["--root", root]);
    expect(code).toBe(0);
    expect(existsSync(join(root, "etc/kms-pkcs11/credentials/pin"))).toBe(false);
    expect(stdout).toMatch(/install -m 0600 \/dev\/stdin \/etc\/kms-pkcs11\/credentials\/pin/);
  });

  it("init writes nothing while a file differs, and all of it with --force", async () => {
    await init(["--root", root]);
    const configuration = join(root, "etc/kms-pkcs11/config.yaml");
    writeFileSync(configuration, "# mine\n");
    rmSync(join(root, "etc/kms-pkcs11/init.yaml"));
    expect(await init(["--root", root])).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(
        /config\.yaml: another content\nnothing was written; .* --force/,
      ) as string,
    });
    expect(existsSync(join(root, "etc/kms-pkcs11/init.yaml"))).toBe(false);
    expect(await init(["--root", root, "--force"])).toMatchObject({ code: 0 });
    expect(readFileSync(configuration, "utf8")).toMatch(/^# YubiHSM 2/);
  });

  it("a user other than root is told to become root before anything is asked", () => {
    const { status, stderr } = spawnSync(process.execPath, [MAIN, "init"], {
      encoding: "utf8",
      uid: 65534,
      gid: 65534,
    });
    expect(stderr).toMatch(/only root can do; run it as root, or give --dry-run or --print/);
    expect(status).toBe(2);
  });

  it("init asks on a terminal, and takes answers that were pasted", async () => {
    const { said, code } = await converse([
      ["hsm: ", "5\nkubeadm\nbad\nsystemd\n1\n\n\n\n1\n"],
      ["[y/N] ", "y\n"],
    ]);
    expect(said).toMatch(/give a name or a number from 1 to 2/);
    expect(said).toMatch(/Label of the token \[YubiHSM\]/);
    expect(code).toBe(0);
    expect(readdirSync(root)).toEqual(["etc", "var"]);
  });

  it("init writes nothing if the terminal closes or the answer is not yes", async () => {
    const answers = "5\n1\n2\n1\n\n\n\n1\n";
    const [closed, refused] = await Promise.all([
      converse([["hsm: ", "5\n1\n"]]),
      converse([
        ["hsm: ", answers],
        ["[y/N] ", "\n"],
      ]),
    ]);
    expect(closed.code).not.toBe(0);
    expect(refused).toMatchObject({
      code: 130,
      said: expect.stringMatching(/cancelled; nothing was written/) as string,
    });
    expect(readdirSync(root)).toEqual([]);
  });
});

/** Runs `init` on a terminal, which closes after the last answer if that does not end it. */
async function converse(
  exchanges: readonly (readonly [prompt: string, answer: string])[],
): Promise<{ said: string; code: number | null }> {
  const child = spawn("script", ["-qec", `${process.execPath} ${MAIN} init --root ${root}`, "/dev/null"]);
  let said = "";
  let next = 0;
  child.stdout.on("data", (chunk: Buffer) => {
    said += chunk.toString();
    const [prompt, answer] = exchanges[next] ?? [];
    if (prompt === undefined || !said.includes(prompt)) return;
    next++;
    child.stdin.write(answer);
    if (next === exchanges.length) child.stdin.end();
  });
  const [code] = (await once(child, "close")) as [number | null];
  return { said, code };
}
