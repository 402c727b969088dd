// Every rule of the contract holds for a plugin that keeps the contract, and fails for one that breaks it.

import { setTimeout as sleep } from "node:timers/promises";

import { status } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";

import { pluginAt } from "../../src/cli/conformance-connection.js";
import { run } from "../../src/cli/program.js";
import { checkContract, CONTRACT } from "../../src/conformance/contract.js";
import { Violation } from "../../src/conformance/rule.js";
import { usePlugin } from "../support/plugin-fixture.js";
import { runCommand } from "../support/command.js";
import { checkJsonOutput } from "../support/output-schema.js";
import { KEY_ID, NOTE, refusal, startFakePlugin, type Behaviour, type FakePlugin } from "./fake-plugin.js";

/** Rules that a busy machine may break. */
const TIMED = /(within|less than) \d+ ms$/;
const OLDER_AUTHORITY = /^the socket's path is accepted as :authority/;

let fake: FakePlugin;

afterEach(async () => {
  await fake.stop();
});

/** The beginning of each rule, a behaviour that breaks it, and what is then observed. */
const BROKEN: readonly (readonly [rule: string, broken: () => Partial<Behaviour>, seen: RegExp])[] = [
  ["Status answers within 3 s", () => ({ status: (answer) => sleep(3_050, answer) }), /^\d{4,}\.\d ms$/],
  ['version is "v2"', () => ({ status: (answer) => ({ ...answer, version: "v2alpha1" }) }), /"v2alpha1"/],
  ['healthz is exactly "ok"', () => ({ status: (answer) => ({ ...answer, healthz: "ok " }) }), /"ok "/],
  ["key_id has 1 to 1023", () => ({ status: (answer) => ({ ...answer, key_id: "" }) }), /^0 bytes/],
  [
    "key_id has 1 to 1023",
    () => ({ status: (answer) => ({ ...answer, key_id: "é".repeat(512) }) }),
    /^1024 /,
  ],
  ["key_id is UTF-8", () => ({ status: (answer) => ({ ...answer, key_id: "a\uFFFD" }) }), /not UTF-8/],
  [
    "key_id stays the same",
    () => {
      let asked = 0;
      return { status: (answer) => ({ ...answer, key_id: `k${asked++ % 2}` }) };
    },
    /2 different ones/,
  ],
  ["Status answers within 100 ms", () => delayedOnce(), /^slowest of 50: \d{3,}\./],
  ["Encrypt accepts a 32-byte", () => ({ encrypt: refuse }), /UNAVAILABLE/],
  [
    "Encrypt's key_id is",
    () => ({ encrypt: (_p, sealed) => ({ ...sealed, keyId: "b" }) }),
    /Encrypt says "b"/,
  ],
  [
    "ciphertext has 1 to 1023",
    () => ({ encrypt: (_p, sealed) => ({ ...sealed, ciphertext: Buffer.alloc(1024) }) }),
    /^1024 bytes/,
  ],
  [
    "ciphertext has 1 to 1023",
    () => ({ encrypt: (_p, sealed) => ({ ...sealed, ciphertext: Buffer.alloc(0) }) }),
    /^0 bytes/,
  ],
  ...["fake.example/note", "Note.fake.example", "note"].map(
    (name) =>
      [
        "the keys of annotations are",
        () => ({ encrypt: (_p, sealed) => ({ ...sealed, annotations: { [name]: Buffer.of(1) } }) }),
        new RegExp(`"${name}"`),
      ] satisfies (typeof BROKEN)[number],
  ),
  [
    "annotations have at most",
    () => ({ encrypt: (_p, sealed) => ({ ...sealed, annotations: { [NOTE]: Buffer.alloc(32_768) } }) }),
    /^32785 bytes/,
  ],
  ["different plaintexts give", () => ({ encrypt: sameAlways() }), /^1 different ones of 20/],
  ["one plaintext gives", () => ({ encrypt: sameAlways() }), /^1 different ones of 20/],
  [
    "the result does not contain",
    () => ({
      encrypt: (plaintext, sealed) => ({ ...sealed, ciphertext: Buffer.concat([Buffer.of(0), plaintext]) }),
    }),
    /contains the seed/,
  ],
  ["an empty plaintext is", () => ({ empty: status.UNKNOWN }), /^refused with UNKNOWN$/],
  [
    "Encrypt takes less than",
    () => ({ encrypt: (_p, sealed) => sleep(105, sealed) }),
    /^median of 20: \d{3,}\./,
  ],
  ["a 32-byte seed comes back", () => ({ decrypt: () => Buffer.alloc(32) }), /came back changed/],
  [
    "plaintexts of other sizes",
    () => ({
      decrypt: (sealed, honest) => {
        const plaintext = honest(sealed);
        return plaintext.length < 32 ? Buffer.concat([plaintext, Buffer.of(0)]) : plaintext;
      },
    }),
    /^1 bytes came back/,
  ],
  [
    "a ciphertext decrypts again",
    () => {
      let asked = 0;
      return { decrypt: (sealed, honest) => (asked++ < 3 ? honest(sealed) : refuse()) };
    },
    /UNAVAILABLE/,
  ],
  [
    "a ciphertext with a flipped bit",
    () => ({ decrypt: () => Buffer.alloc(32) }),
    /^one of 24 was decrypted/,
  ],
  [
    "a shorter, longer or empty",
    () => ({
      decrypt: (sealed, honest) => (sealed.ciphertext.length === 0 ? Buffer.alloc(0) : honest(sealed)),
    }),
    /^one of 3 was decrypted/,
  ],
  [
    "another or an empty key_id",
    () => ({ decrypt: (sealed, honest) => honest({ ...sealed, keyId: KEY_ID }) }),
    /^one of 3 was decrypted/,
  ],
  [
    "changed, missing or foreign",
    () => ({ decrypt: (sealed, honest) => honest({ ...sealed, annotations: { [NOTE]: Buffer.of(7) } }) }),
    /^one of 3 was decrypted/,
  ],
  [
    "refusals have a status code",
    () => ({
      decrypt: () => {
        throw refusal(status.UNKNOWN);
      },
    }),
    /^UNKNOWN, UNKNOWN$/,
  ],
  [
    "Decrypt takes less than",
    () => ({ decrypt: (sealed, honest) => sleep(15, honest(sealed)) }),
    /median of 20: /,
  ],
  ["32 concurrent round trips", () => ({ encrypt: atMost(8) }), /RESOURCE_EXHAUSTED/],
  ["two concurrent connections are served", () => ({ connections: 1 }), /UNAVAILABLE|DEADLINE/],
  [
    "cancelled calls do no harm",
    () => {
      let asked = 0;
      return {
        encrypt: (_p, sealed) => sleep(50, sealed),
        status: (answer) => (asked++ < 1 ? refuse() : answer),
      };
    },
    /Status afterwards answers UNAVAILABLE/,
  ],
  [
    "Status has the same key_id",
    () => ({ status: (answer) => ({ ...answer, key_id: "rotated" }) }),
    /"rotated" now/,
  ],
];

function refuse(): never {
  throw refusal(status.UNAVAILABLE);
}

function delayedOnce(): Partial<Behaviour> {
  let asked = 0;
  return { status: (answer) => (asked++ === 20 ? sleep(110, answer) : answer) };
}

function sameAlways(): Behaviour["encrypt"] {
  let first: Parameters<Behaviour["encrypt"]>[1] | undefined;
  return (_plaintext, sealed) => (first ??= sealed);
}

function atMost(limit: number): Behaviour["encrypt"] {
  let inFlight = 0;
  return async (_plaintext, sealed) => {
    if (++inFlight > limit) throw refusal(status.RESOURCE_EXHAUSTED);
    await sleep(20);
    inFlight -= 1;
    return sealed;
  };
}

describe("a plugin that breaks the contract", () => {
  it.each(BROKEN)("a plugin that breaks the contract violates the rule: %s", async (name, broken, seen) => {
    fake = await startFakePlugin(broken());
    const rule = CONTRACT.find((one) => one.rule.startsWith(name));
    const plugin = pluginAt(fake.socket);
    const connection = plugin.connect();
    try {
      const violation = await rule?.check(connection, plugin).catch((error: unknown) => error);
      expect(violation).toBeInstanceOf(Violation);
      expect((violation as Violation).message).toMatch(seen);
    } finally {
      connection.close();
    }
  });

  it("every rule of the contract has a plugin that breaks it", async () => {
    fake = await startFakePlugin();
    const untried = CONTRACT.filter(({ rule }) => !BROKEN.some(([name]) => rule.startsWith(name)));
    expect(untried.map(({ rule }) => rule)).toEqual([expect.stringMatching(OLDER_AUTHORITY)]);
  });

  it("a plugin fails only the rules that it breaks, and the command exits with 1", async () => {
    fake = await startFakePlugin({ status: (answer) => ({ ...answer, healthz: "nearly" }) });
    const printed: string[] = [];
    const terminal = {
      out: (text: string) => printed.push(text),
      err: () => undefined,
      isInteractive: false,
    };
    const exitCode = process.exitCode;
    const args = ["conformance", "--socket", fake.socket, "--output", "json"];
    await run(["node", "kms-pkcs11", ...args], terminal);
    checkJsonOutput(args, { code: 1, stdout: printed.join(""), stderr: "" });
    expect(process.exitCode).toBe(1);
    process.exitCode = exitCode;
    const { findings } = JSON.parse(printed.join("")) as { findings: { verdict: string; rule: string }[] };
    const failed = findings.filter(({ verdict }) => verdict === "fail").map(({ rule }) => rule);
    expect(failed).toEqual(['healthz is exactly "ok"', "Status has the same key_id after all these calls"]);
  });
});

describe("a plugin that keeps the contract", () => {
  const kms = usePlugin();

  it("a plugin without an HSM passes every rule", async () => {
    fake = await startFakePlugin();
    const findings = await checkContract(pluginAt(fake.socket), () => undefined);
    const broken = findings.filter(({ holds, rule }) => !holds && !TIMED.test(rule));
    expect(broken.map(({ rule }) => rule)).toEqual([expect.stringMatching(OLDER_AUTHORITY)]);
  });

  it("this plugin on a token passes every rule", async () => {
    fake = await startFakePlugin();
    const { code, stdout } = await runCommand(["conformance", "--socket", kms.plugin.socket]);
    const broken = stdout.split("\n").filter((line) => !/^(ok| )/.test(line) && line !== "");
    const unexpected = broken.filter((line) => !/less than|within 100 ms|accepted as :authority/.test(line));
    expect([code, unexpected]).toEqual([0, []]);
    expect((await runCommand(["conformance", "--socket", `${kms.plugin.socket}.none`])).code).toBe(3);
  });
});
