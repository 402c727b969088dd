// The life of KEKs on one token, from the first KEK to the destruction of a retired KEK, as operators, kube-apiserver
// and the vendor's tool see it. The steps are the same for every token; only how the token is made differs.

import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";

import type { TokenReport } from "../../src/admin/token-report/report.js";
import { KmsClient, type KmsCiphertext } from "../../src/kms-client/kms-client.js";
import { freePort } from "../support/free-port.js";
import { MAIN, PluginProcess, type CommandResult } from "../support/plugin-process.js";
import { tokenUri, type TestToken } from "../support/token.js";
import { waitFor } from "../support/wait.js";
import { checkedCommand } from "./checked-command.js";

export interface LifeCycleToken extends TestToken {
  /** Makes a KEK with the vendor's tool, on a token that does not generate secret keys through PKCS#11. */
  readonly makeKek?: (label: string) => void;
  /** The library shows changes of other processes only when it is loaded again. */
  readonly readAtLoad?: boolean;
}

/**
 * Long enough for a busy machine to make RSA keys. A library that reads its store when it is loaded is reloaded every 30 s
 * until the plugin has detected this.
 */
const ACTIVATE_IN = { readAtLoad: "60s", readAlways: "30s" };
const REFRESH = "1s";
const PATIENT = { timeoutMs: 90_000, intervalMs: 200 };
const SEED = Buffer.alloc(32, 7);

interface Key {
  readonly keyId: string;
  readonly label: string;
  readonly state: string;
}

/** The state that the steps share. */
class Operator {
  readonly plugin: PluginProcess;
  readonly client: KmsClient;
  readonly token: LifeCycleToken;
  readonly #address: string;

  private constructor(token: LifeCycleToken, address: string) {
    this.token = token;
    this.#address = address;
    this.plugin = new PluginProcess(token, { keys: { refreshInterval: REFRESH }, http: { address } });
    this.client = new KmsClient(this.plugin.socket);
  }

  static async on(token: LifeCycleToken): Promise<Operator> {
    return new Operator(token, `127.0.0.1:${await freePort()}`);
  }

  get keyUri(): string {
    return tokenUri(this.token, "kms-kek");
  }

  run(...args: string[]): Promise<CommandResult> {
    return checkedCommand([...args, "--config", this.plugin.configFile], this.token.env);
  }

  /**
   * Makes a KEK by a `keys` command. If the token cannot make it, carries out the printed instruction as an operator
   * would.
   */
  async make(...args: string[]): Promise<void> {
    const command = ["keys", ...args, "--config", this.plugin.configFile];
    const child = spawn(process.execPath, [MAIN, ...command], {
      env: { ...process.env, ...this.token.env },
      stdio: ["ignore", "ignore", "pipe"],
    });
    let printed = "";
    child.stderr.on("data", (chunk: Buffer) => (printed += chunk.toString()));
    const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
    const { makeKek } = this.token;
    if (makeKek !== undefined) {
      const pattern = /cannot generate secret keys[^]*(kms-kek@\d{8}T\d{6}Z)[^]*waiting for "\1"/;
      const said = await waitFor(() => pattern.exec(printed), { what: `an instruction in: ${printed}` });
      makeKek(said[1] ?? "");
    }
    expect([await ended, printed]).toEqual([0, expect.not.stringContaining("kms-pkcs11:")]);
  }

  async listed(): Promise<readonly Key[]> {
    const { code, stdout, stderr } = await this.run("keys", "list", "-o", "json");
    expect([code, stderr]).toEqual([0, ""]);
    return (JSON.parse(stdout) as { keys: Key[] }).keys;
  }

  /** The KEKs as the running plugin lists them. */
  async shown(): Promise<readonly Key[]> {
    const response = await fetch(`http://${this.#address}/keys`, { headers: { connection: "close" } });
    return ((await response.json()) as { keys: Key[] }).keys;
  }

  async stop(): Promise<void> {
    this.client.close();
    await this.plugin.stop();
    this.plugin.remove();
    this.token.remove();
  }
}

/**
 * Declares the life cycle as tests; each relies on the ones before it, and is left out if one of them failed.
 * @param createOptions further options of `keys create`
 */
export function describeLifeCycle(
  name: string,
  makeToken: () => LifeCycleToken | Promise<LifeCycleToken>,
  createOptions: readonly string[] = [],
): void {
  describe(`life cycle of KEKs on ${name}`, () => {
    let operator: Operator;
    let first: Key;
    let second: Key;
    let old: KmsCiphertext;

    beforeAll(async () => {
      operator = await Operator.on(await makeToken());
    });
    afterAll(async () => {
      await operator.stop();
    });
    let hasFailed = false;
    beforeEach(({ skip }) => {
      skip(hasFailed, "a step before failed");
    });
    afterEach(({ task }) => {
      hasFailed ||= task.result?.state === "fail";
    });

    const opened = (sealed: KmsCiphertext): Promise<Uint8Array> =>
      operator.client.decrypt(sealed, "life-cycle");

    it("keys create makes the first KEK, or says how the vendor's tool makes it", async () => {
      if (operator.token.makeKek !== undefined) {
        const { code, stderr } = await operator.run("keys", "create");
        expect([code, stderr]).toEqual([1, expect.stringMatching(/cannot generate.*kms-kek@\d{8}T\d{6}Z/)]);
      }
      await operator.make("create", "--wait", ...createOptions);
      const keys = await operator.listed();
      expect(keys.map(({ state }) => state)).toEqual(["active"]);
      first = keys[0] as Key;
    });

    it("check finds the KEK and a mechanism that works", async () => {
      const { code, stdout, stderr } = await operator.run("check");
      expect([code, stderr, stdout]).toEqual([0, "", expect.stringContaining(first.keyId)]);
      expect(stdout).toMatch(/ok +mechanism .*round trip done/);
    });

    it("the token report finds nothing missing and leaves the KEK alone", async () => {
      const { code, stdout, stderr } = await operator.run("check", "--token-report", "-o", "json");
      const report = JSON.parse(stdout) as TokenReport;
      const folder = process.env["REPORTS_FOLDER"];
      if (folder !== undefined) writeFileSync(join(folder, `${name}.json`), stdout);
      const missing = report.findings.filter(({ verdict }) => verdict === "fail");
      expect([code, missing, stderr]).toEqual([0, [], expect.stringContaining("trial objects")]);
      const { keyId, label, state } = first;
      expect(await operator.listed()).toMatchObject([{ keyId, label, state }]);
    });

    it("the plugin encrypts and decrypts under it", async () => {
      await operator.plugin.start();
      expect((await operator.client.status()).keyId).toBe(first.keyId);
      old = await operator.client.encrypt(SEED, "life-cycle");
      expect(old.keyId).toBe(first.keyId);
      expect(Buffer.from(await opened(old))).toEqual(SEED);
    });

    it("the plugin discovers the next KEK before its activation and switches at it", async () => {
      const kind = operator.token.readAtLoad === true ? "readAtLoad" : "readAlways";
      await operator.make("rotate", "--activate-in", ACTIVATE_IN[kind]);
      second = (await operator.listed())[0] as Key;
      const states = new Set<string>();
      await waitFor(
        async () => {
          const shown = (await operator.shown()).find(({ keyId }) => keyId === second.keyId);
          if (shown !== undefined) states.add(shown.state);
          return (await operator.client.status()).keyId === second.keyId;
        },
        { what: "the switch", ...PATIENT },
      );
      expect([...states]).toContain("standby");
      const fresh = await operator.client.encrypt(SEED, "life-cycle");
      expect(fresh.keyId).toBe(second.keyId);
      expect(Buffer.from(await opened(fresh))).toEqual(SEED);
    });

    it("what the retired KEK encrypted is still decrypted, after a restart too", async () => {
      expect(Buffer.from(await opened(old))).toEqual(SEED);
      await operator.plugin.stop();
      await operator.plugin.start();
      expect(Buffer.from(await opened(old))).toEqual(SEED);
    });

    it("the plugin drops a destroyed KEK without a restart", async () => {
      const { keyId } = first;
      const destroyed = await operator.run("keys", "destroy", keyId, "--i-understand-data-is-lost", keyId);
      expect([destroyed.code, destroyed.stderr]).toEqual([0, expect.not.stringContaining("kms-pkcs11:")]);
      expect((await operator.listed()).map((key) => key.keyId)).toEqual([second.keyId]);
      const dropped = async (): Promise<boolean> =>
        (await operator.shown()).every((key) => key.keyId !== keyId);
      await waitFor(dropped, { what: "the end of the KEK", ...PATIENT });
      await expect(opened(old)).rejects.toThrow();
      expect((await operator.client.status()).healthz).toBe("ok");
    });
  });
}
