// What a drill needs, made without Kubernetes: a token with a KEK, a snapshot of an etcd with Secrets under it, and a copy of
// the token in its own folder, as the restored one. The token that made the objects is the live one, with its plugin's files.

import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { saveSnapshot } from "./etcd-history.js";
import { startEtcd } from "./etcd.js";
import { sealedValue, type StoredSeed } from "./stored-secrets.js";
import { makeFolder, type TestToken } from "./token.js";

export const SECRETS = 25;

/** The etcd key of a Secret. @param of the index of its seed */
export const secretKey = (of: number, at: number): string => `/registry/secrets/ns-${of}/db-${at}`;

export class DrillStage {
  readonly folder = makeFolder("drill");
  readonly snapshot = join(this.folder, "backup.db");
  readonly reports = join(this.folder, "reports");
  readonly config = join(this.folder, "drill.yaml");
  readonly stateDir = join(this.folder, "state");
  /** The environment of a process that sees the restored token instead of the live one. */
  readonly env: Readonly<Record<string, string>>;
  readonly #token: TestToken;
  readonly #tokens: string;

  constructor(token: TestToken & { readonly folder: string }) {
    this.#token = token;
    this.#tokens = join(this.folder, "tokens");
    mkdirSync(this.reports);
    this.restoreToken(join(token.folder, "tokens"));
    const conf = join(this.folder, "softhsm2.conf");
    writeFileSync(
      conf,
      `directories.tokendir = ${this.#tokens}\nobjectstore.backend = file\nlog.level = ERROR\n`,
    );
    const temporary = join(this.folder, "tmp");
    mkdirSync(temporary, { mode: 0o700 });
    this.env = { SOFTHSM2_CONF: conf, TMPDIR: temporary };
    this.configure();
  }

  /** The folder for what is private of a drill. */
  get temporary(): string {
    return this.env["TMPDIR"] ?? "";
  }

  /** Replaces the restored token by a copy of another one. */
  restoreToken(from: string): void {
    rmSync(this.#tokens, { recursive: true, force: true });
    cpSync(from, this.#tokens, { recursive: true });
  }

  /** Writes the drill's configuration. @param sections in addition to the token and the state directory */
  configure(sections: object = {}, pinFile = this.#token.pinFile): void {
    const { label, modulePath } = this.#token;
    const uri = `pkcs11:token=${label};object=kms-kek?module-path=${modulePath}&pin-source=file:${pinFile}`;
    const document = {
      apiVersion: "kms-pkcs11.dev/v1",
      kind: "PluginConfiguration",
      keys: { uri },
      stateDir: this.stateDir,
      ...sections,
    };
    writeFileSync(this.config, JSON.stringify(document), { mode: 0o600 });
  }

  /** Returns the arguments of a drill. */
  args(...more: string[]): string[] {
    return ["drill", "--config", this.config, "--snapshot", this.snapshot, "--to", this.reports, ...more];
  }

  /** Returns the files of the reports so far. */
  reportFiles(): string[] {
    return readdirSync(this.reports).sort();
  }

  /** Returns the latest report; the names of two that began in one second are not in their order. */
  report(): unknown {
    const reports = this.reportFiles()
      .filter((name) => name.endsWith(".json"))
      .map((name) => JSON.parse(readFileSync(join(this.reports, name), "utf8")) as { startedAt: string });
    return reports.sort((one, other) => (one.startedAt < other.startedAt ? -1 : 1)).at(-1);
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/**
 * Saves a snapshot of an etcd with as many Secrets as SECRETS under each seed, and some more values.
 * @returns when the etcd is gone
 */
export async function saveSecrets(
  seeds: readonly StoredSeed[],
  file: string,
  more: readonly (readonly [string, Buffer])[] = [],
): Promise<void> {
  const etcd = await startEtcd();
  try {
    const secrets = seeds.flatMap((seed, of) =>
      Array.from({ length: SECRETS }, (_, at): [string, Buffer] => {
        const key = secretKey(of, at);
        return [key, sealedValue(seed, key, "a value")];
      }),
    );
    await etcd.store.putAll([...secrets, ...more]);
    await saveSnapshot(etcd.store, file);
  } finally {
    await etcd.remove();
  }
}
