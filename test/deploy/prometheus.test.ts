// What is shipped for Prometheus and Grafana, tested with real programs: the rules by promtool, and every query of the
// dashboard and the rules against a Prometheus that has scraped a plugin.

import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse, stringify } from "yaml";

import { freePort } from "../support/free-port.js";
import { usePlugin } from "../support/plugin-fixture.js";
import { childrenOf } from "../support/plugin-process.js";
import { makeFolder } from "../support/token.js";
import { waitFor } from "../support/wait.js";

const FOLDER = fileURLToPath(new URL("../../deploy/prometheus/", import.meta.url));

interface Rules {
  readonly groups: readonly {
    readonly rules: readonly { readonly record?: string; readonly alert?: string; readonly expr: string }[];
  }[];
}
interface Dashboard {
  readonly panels: readonly {
    readonly title: string;
    readonly targets: readonly { readonly expr: string }[];
  }[];
}

const rules = (parse(readFileSync(join(FOLDER, "rules.yaml"), "utf8")) as Rules).groups.flatMap(
  (group) => group.rules,
);
const { panels } = JSON.parse(readFileSync(join(FOLDER, "dashboard.json"), "utf8")) as Dashboard;
const queries = panels.flatMap(({ title, targets }) => targets.map(({ expr }) => [title, expr] as const));

describe("the rules", () => {
  it("the alerting rules pass promtool's check and their own tests", () => {
    const run = (...args: string[]): string =>
      execFileSync("promtool", args, { cwd: FOLDER, encoding: "utf8" });
    expect(run("check", "rules", "rules.yaml")).toContain("SUCCESS");
    expect(run("test", "rules", "rules.test.yaml")).toContain("SUCCESS");
  });
});

it("every alert is expected to fire in a test of the rules", () => {
  const tests = readFileSync(join(FOLDER, "rules.test.yaml"), "utf8");
  const untested = rules.flatMap(({ alert }) =>
    alert === undefined || tests.includes(alert) ? [] : [alert],
  );
  expect(untested).toEqual([]);
});

describe("a Prometheus that scrapes a plugin", () => {
  const kms = usePlugin(({ plugin }) => ({
    audit: { file: join(plugin.folder, "audit.log"), ocsf: { file: join(plugin.folder, "ocsf.log") } },
    hsm: {},
    cache: { entries: 1 },
  }));
  let prometheus: ChildProcess;
  let folder: string;
  let api: string;
  let load: NodeJS.Timeout;

  beforeAll(async () => {
    const own = await freePort();
    folder = makeFolder("prometheus");
    writeFileSync(
      join(folder, "prometheus.yaml"),
      stringify({
        global: { scrape_interval: "500ms", evaluation_interval: "500ms" },
        rule_files: [join(FOLDER, "rules.yaml")],
        scrape_configs: [{ job_name: "kms-pkcs11", static_configs: [{ targets: [kms.address] }] }],
      }),
    );
    prometheus = spawn(
      "prometheus",
      [
        `--config.file=${join(folder, "prometheus.yaml")}`,
        `--storage.tsdb.path=${join(folder, "data")}`,
        `--web.listen-address=127.0.0.1:${own}`,
      ],
      { stdio: "ignore" },
    );
    api = `http://127.0.0.1:${own}/api/v1`;
    load = setInterval(() => void work().catch(() => undefined), 200);
    await waitFor(async () => (await query('up{job="kms-pkcs11"} == 1')).length === 1, {
      timeoutMs: 30_000,
      intervalMs: 100,
    });
    // Ends a token host, so that its metric counts something.
    process.kill(childrenOf(kms.plugin.pid ?? 0)[1] ?? 0, "SIGKILL");
  });

  afterAll(async () => {
    clearInterval(load);
    const ended = new Promise((resolve) => prometheus.once("exit", resolve));
    prometheus.kill("SIGKILL");
    await ended;
    rmSync(folder, { recursive: true });
  });

  /** Gives every metric something to count: answers, an error, a cache hit. */
  const work = async (): Promise<void> => {
    const sealed = await kms.client.encrypt(Buffer.alloc(32), "load");
    await kms.client.decrypt(sealed, "load");
    await kms.client.decrypt(sealed, "load");
    await kms.client.decrypt({ ...sealed, ciphertext: Buffer.alloc(60, 1) }, "load").catch(() => undefined);
    await kms.client.status();
  };

  const query = async (expr: string): Promise<{ readonly value: [number, string] }[]> => {
    const response = await fetch(`${api}/query?query=${encodeURIComponent(expr)}`);
    const answer = (await response.json()) as { status: string; error?: string; data?: { result: [] } };
    if (answer.status !== "success") throw new Error(`${expr}: ${answer.error ?? ""}`);
    return answer.data?.result ?? [];
  };

  it.each(queries)("the dashboard panel %s shows data: %s", async (_title, expr) => {
    const rows = await waitFor(
      async () => {
        const found = await query(expr);
        return found.length > 0 && found.every(({ value }) => value[1] !== "NaN") && found;
      },
      { what: expr, timeoutMs: 30_000, intervalMs: 200 },
    );
    expect(rows.length).toBeGreaterThan(0);
  });

  it("Prometheus evaluates every recording rule and loads every alerting rule", async () => {
    for (const { record, expr } of rules) {
      if (record === undefined) await query(expr);
      else await waitFor(async () => (await query(record)).length > 0, { what: record, timeoutMs: 30_000 });
    }
  });

  it("the dashboard queries every metric of the plugin", async () => {
    const answer = await fetch(`${api}/label/__name__/values`);
    const { data } = (await answer.json()) as { data: string[] };
    const ours = data.filter(
      (name) => name.startsWith("kms_pkcs11_") && !/_(process|nodejs)_|_(sum|count|created)$/.test(name),
    );
    const shown = queries.map(([, expr]) => expr).join("\n");
    expect(ours.filter((name) => !shown.includes(name))).toEqual([]);
    expect(ours.length).toBeGreaterThan(20);
  });
});
