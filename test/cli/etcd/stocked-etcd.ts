// An etcd with objects as API servers store them: 300 secrets under one DEK seed, one each under a local KEK and with
// an older data key, one in clear, and one under another provider.

import { expect } from "vitest";

import { runCommand } from "../../support/command.js";
import type { TestEtcd } from "../../support/etcd.js";
import type { CommandResult } from "../../support/plugin-process.js";
import type { ReachablePlugin } from "../../support/reachable-plugin.js";
import { newSeed, sealedValue, type StoredSeed } from "../../support/stored-secrets.js";

export const SECRET = "a secret value";

/** The etcd key of a secret. */
export const key = (name: string, namespace = "one"): string => `/registry/secrets/${namespace}/${name}`;

/** Stores the objects and returns the DEK seed of most of them. Leaves the plugin stopped, in mode local-kek. */
export async function stockEtcd(etcd: TestEtcd, one: ReachablePlugin): Promise<StoredSeed> {
  await one.start();
  const { socket } = one.plugin;
  const direct = await newSeed(socket);
  const key0 = await newSeed(socket, 16);
  await one.restart({ mode: "local-kek" });
  const local = await newSeed(socket);
  await one.stop();
  const many = Array.from({ length: 300 }, (_, at): [string, Buffer] => {
    const name = key(`many-${at}`, `ns-${at % 3}`);
    return [name, sealedValue(direct, name, SECRET)];
  });
  await etcd.store.putAll([
    ...many,
    [key("local"), sealedValue(local, key("local"), SECRET)],
    [key("old-type"), sealedValue(key0, key("old-type"), SECRET, 0)],
    ["/registry/configmaps/one/clear", Buffer.from('{"kind":"ConfigMap"}')],
    [key("leftover"), Buffer.from("k8s:enc:aescbc:v1:key1:0123456789abcdef")],
  ]);
  return direct;
}

type Run = (...args: string[]) => Promise<CommandResult>;

/** Returns functions that run `etcd` commands: `runRaw`, and `run`, which requires that no secret is in their output. */
export function etcdCommands(env: () => Readonly<Record<string, string>>): {
  readonly run: Run;
  readonly runRaw: Run;
} {
  const runRaw: Run = (...args) => runCommand(["etcd", ...args], env());
  const run: Run = async (...args) => {
    const result = await runRaw(...args);
    expect(result.stdout + result.stderr).not.toContain(SECRET);
    return result;
  };
  return { run, runRaw };
}
