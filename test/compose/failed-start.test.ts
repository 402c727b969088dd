// A start that fails closes what it has opened, in the closing order: sockets and ports are free afterwards, and no
// token host is left. Each part in turn is opened, and then the start fails.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";

import { beforeEach, expect, it } from "vitest";

import { Closers, CLOSING_ORDER, type Close, type PartName } from "../../src/compose/closers.js";
import { startPlugin } from "../../src/compose/plugin.js";
import { loadConfigurations } from "../../src/config/load.js";
import type { Configuration } from "../../src/config/settings.js";
import { usePlugin } from "../support/plugin-fixture.js";

/** The parts in the order in which a start opens them. */
const OPENING_ORDER: readonly PartName[] = [
  "log output",
  "token hosts",
  "held PINs",
  "tracing",
  "audit log",
  "server",
  "HTTP endpoints",
  "unlock sockets",
  "working set",
  "provider",
  "watchdog",
];

/** Fails once a part has been opened, and records what is closed. */
class FailingClosers extends Closers {
  readonly opened: PartName[] = [];
  readonly closed: [PartName, boolean][] = [];
  readonly #failAt: PartName;

  constructor(failAt: PartName) {
    super();
    this.#failAt = failAt;
  }

  override add(part: PartName, close: Close): void {
    this.opened.push(part);
    super.add(part, async (isGraceful) => {
      await close(isGraceful);
      this.closed.push([part, isGraceful]);
    });
    if (part === this.#failAt) throw new Error(`after ${part}`);
  }
}

let unlockPath: string;
let configurations: readonly Configuration[];
/** Started in this process, from its configuration file. */
const kms = usePlugin(
  ({ token, plugin }) => {
    unlockPath = join(plugin.folder, "run", "unlock.sock");
    const uri = `pkcs11:token=${token.label};object=kms-kek?module-path=${token.modulePath}&pin-source=unlock:${unlockPath}`;
    return {
      audit: { file: join(plugin.folder, "audit.log") },
      keys: { uri },
      hsm: {},
      log: { level: "error" },
    };
  },
  { token: {}, start: false },
);

beforeEach(() => {
  configurations = loadConfigurations({
    configPath: kms.plugin.configFile,
    flags: {},
    env: {},
    serves: true,
  });
});

const isFree = (): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => {
      resolve(false);
    });
    server.listen(Number(new URL(kms.own.url).port), "127.0.0.1", () =>
      server.close(() => {
        resolve(true);
      }),
    );
  });

const childPids = (): string => readFileSync(`/proc/self/task/${process.pid}/children`, "utf8").trim();

it.each(OPENING_ORDER)("a start that fails after opening its %s closes what it has opened", async (part) => {
  const closers = new FailingClosers(part);
  const children = childPids();
  await expect(startPlugin(configurations, kms.token.env, closers)).rejects.toThrow(`after ${part}`);
  const opened = OPENING_ORDER.slice(0, OPENING_ORDER.indexOf(part) + 1);
  expect(closers.opened).toEqual(opened);
  expect(closers.closed).toEqual(
    CLOSING_ORDER.filter((name) => opened.includes(name)).map((name) => [name, false]),
  );
  expect([kms.plugin.socket, unlockPath].filter((path) => existsSync(path))).toEqual([]);
  expect([await isFree(), childPids()]).toEqual([true, children]);
  const isRunning = opened.includes("provider");
  expect(
    existsSync(kms.plugin.stateDir) && readdirSync(kms.plugin.stateDir).includes("published-key.json"),
  ).toBe(isRunning);
});
