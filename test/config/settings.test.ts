// Loading the settings: the file, and the flags that override it.
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { effectiveSettings } from "../../src/config/effective-settings.js";
import { loadSettings } from "../../src/config/load.js";
import type { Flags, Settings } from "../../src/config/settings.js";
import { HEAD, MINIMAL, URI, useConfigurationFile } from "./configuration-file.js";
import { messageOf } from "./message-of.js";

const file = useConfigurationFile();
const fromFlags = (flags: Flags): Settings => loadSettings({ flags, env: {}, serves: false });

describe("without a file", () => {
  it("--key is enough: every other setting has its default", () => {
    expect(fromFlags({ key: URI })).toEqual({
      objectName: "kms-kek",
      tokens: [
        {
          uri: {
            token: "kms",
            object: "kms-kek",
            modulePath: "/usr/lib/softhsm/libsofthsm2.so",
            pinSource: "file:/run/pin",
          },
          modulePath: "/usr/lib/softhsm/libsofthsm2.so",
          pin: { kind: "file", path: "/run/pin" },
          userType: 1,
        },
      ],
      allowUnprotected: [],
      refreshIntervalMs: 30_000,
      mode: "direct",
      mechanism: "auto",
      localKek: { maxAgeMs: 86_400_000, maxUses: 2 ** 20 },
      cache: { entries: 1000, ttlMs: 3_600_000, outageTtlMs: 172_800_000, remember: true },
      hsm: {
        requestTimeoutMs: 2000,
        startTimeoutMs: 30_000,
        hosts: 2,
        sessions: 16,
        queue: 1000,
        allowFinalTry: false,
      },
      health: { outageGracePeriodMs: 600_000, onHsmLoss: "stopWrites", proofIntervalMs: 30_000 },
      nodes: [],
      logLevel: "info",
      warnings: [],
    });
  });
  it("serve also requires a socket and a state directory, and names their flags", () => {
    const message = messageOf(() => loadSettings({ flags: {}, env: {}, serves: true }));
    expect(message.split("\n")).toEqual([
      expect.stringMatching(/^keys\.uri: is missing; give a PKCS#11 URI .*, here or with --key$/),
      "socket.path: is missing; set it or --socket, such as unix:///run/kms-pkcs11/kms.sock",
      "stateDir: is missing; set it or --state-dir to a folder that survives restarts, such as /var/lib/kms-pkcs11",
    ]);
  });

  it("a problem with a flag names the flag", () => {
    const flags = {
      key: "pkcs11:token=a?module-path=/m",
      socket: "unix:///@a",
      mode: "indirect",
      http: "0.0.0.0:1",
      logLevel: "loud",
    };
    expect(messageOf(() => fromFlags(flags)).split("\n")).toEqual([
      expect.stringMatching(/^--key: does not name a KEK; add object=NAME/),
      '--mode: is "indirect"; give direct, local-kek',
      "--http: is not a loopback address; give 127.0.0.1:1, [::1]:1 or off",
      '--log-level: is "loud"; give debug, info, warn, error',
      expect.stringMatching(/^--socket: is an abstract socket/),
    ]);
  });

  it("relative paths of flags are resolved against the working directory", () => {
    const settings = fromFlags({ key: URI, socket: ".dev/kms.sock", stateDir: "state" });
    expect(settings.socket).toEqual({ path: resolve(".dev/kms.sock"), abstract: false, mode: 0o600 });
    expect(settings.stateDir).toBe(resolve("state"));
  });
});

describe("with a file", () => {
  it("loadSettings reads every setting", () => {
    const settings = file.load(`${HEAD}
socket: { path: "unix:///run/kms/kms.sock", mode: "0660", group: 1000, allowAbstract: false }
keys: { uri: "pkcs11:token=kms;object=kms-kek", active: 0a1b, allowUnprotected: [old], refreshInterval: 1m30s }
module: { path: /usr/lib/nss.so, entry: FC_GetFunctionList, parameters: "configdir=/etc/nss" }
pin: { env: KMS_PIN }
login: { role: crypto-user }
admin: { file: /run/admin.pin }
failover:
  - { uri: "pkcs11:serial=2;object=kms-kek?module-path=/usr/lib/b.so", pin: { file: /run/b.pin } }
mode: local-kek
mechanism: aes-kwp
localKek: { maxAge: 2h, maxUses: 10 }
cache: { entries: 0, ttl: 5m, outageTtl: 24h, remember: false }
hsm: { requestTimeout: 500ms, startTimeout: 2m, hosts: 1, sessions: 4, queue: 10, allowFinalTry: true }
health: { outageGracePeriod: 0s, onHsmLoss: keepWriting, proofInterval: 10s }
http: { address: "localhost:8090" }
stateDir: /var/lib/kms
nodes: ["http://127.0.0.1:8090", "http://cp-2:8090/keys"]
log: { level: debug }
`);
    expect(settings).toEqual({
      socket: { path: "/run/kms/kms.sock", abstract: false, mode: 0o660, group: "1000" },
      objectName: "kms-kek",
      tokens: [
        {
          uri: { token: "kms", object: "kms-kek" },
          modulePath: "/usr/lib/nss.so",
          moduleEntry: "FC_GetFunctionList",
          moduleParameters: "configdir=/etc/nss",
          pin: { kind: "env", name: "KMS_PIN" },
          userType: 0x8000_0001,
          admin: { userType: 1, pin: { kind: "file", path: "/run/admin.pin" } },
        },
        {
          uri: { serial: "2", object: "kms-kek", modulePath: "/usr/lib/b.so" },
          modulePath: "/usr/lib/b.so",
          pin: { kind: "file", path: "/run/b.pin" },
          userType: 1,
        },
      ],
      pinnedKey: "0a1b",
      allowUnprotected: ["old"],
      refreshIntervalMs: 90_000,
      mode: "local-kek",
      mechanism: "aes-kwp",
      localKek: { maxAgeMs: 7_200_000, maxUses: 10 },
      cache: { entries: 0, ttlMs: 300_000, outageTtlMs: 86_400_000, remember: false },
      hsm: {
        requestTimeoutMs: 500,
        startTimeoutMs: 120_000,
        hosts: 1,
        sessions: 4,
        queue: 10,
        allowFinalTry: true,
      },
      health: { outageGracePeriodMs: 0, onHsmLoss: "keepWriting", proofIntervalMs: 10_000 },
      http: { host: "127.0.0.1", port: 8090 },
      stateDir: "/var/lib/kms",
      nodes: [new URL("http://127.0.0.1:8090/keys"), new URL("http://cp-2:8090/keys")],
      logLevel: "debug",
      warnings: [],
    });
  });

  it("flags take precedence, including the library and PIN source of --key", () => {
    const bare = MINIMAL.replace("&pin-source=file:/run/pin", "");
    const yaml = `${bare}module: { path: /file.so }\npin: { env: FILE_PIN }\nmode: local-kek\n`;
    expect(file.load(yaml).tokens[0]).toMatchObject({ modulePath: "/file.so", pin: { kind: "env" } });
    const key = "pkcs11:token=b;object=b?module-path=/flag.so&pin-source=/flag.pin";
    const settings = file.load(yaml, { flags: { key, mode: "direct", moduleParams: "p" } });
    expect(settings).toMatchObject({ objectName: "b", mode: "direct" });
    expect(settings.tokens[0]).toMatchObject({
      modulePath: "/flag.so",
      moduleParameters: "p",
      pin: { kind: "file", path: "/flag.pin" },
    });
    const other = file.load(yaml, { flags: { key: "pkcs11:object=b" } }).tokens[0];
    expect(other).toMatchObject({ modulePath: "/file.so", pin: { kind: "env", name: "FILE_PIN" } });
  });

  it("loadSettings uses the default credential if no PIN source is configured", () => {
    writeFileSync(join(file.directory, "kms-pkcs11-pin"), "1234", { mode: 0o400 });
    const yaml = `${HEAD}keys: { uri: "pkcs11:object=kek?module-path=/a.so" }\n`;
    expect(file.load(yaml).tokens[0].pin).toEqual({ kind: "none" });
    const [{ pin }] = file.load(yaml, { env: { CREDENTIALS_DIRECTORY: file.directory } }).tokens;
    expect(pin).toEqual({ kind: "credential", path: join(file.directory, "kms-pkcs11-pin") });
  });
});

describe("warnings", () => {
  it("a configuration that others can write and a PIN file that others can read are warnings", () => {
    const pin = join(file.directory, "pin");
    writeFileSync(pin, "1234", { mode: 0o600 });
    chmodSync(pin, 0o640);
    const yaml = `${HEAD}keys: { uri: "pkcs11:object=kek?module-path=/a.so&pin-source=${pin}" }\n`;
    expect(file.load(yaml).warnings).toEqual([`PIN file ${pin} can be read by others; chmod 0400 it`]);
    chmodSync(pin, 0o400);
    chmodSync(file.path, 0o620);
    expect(file.load(yaml).warnings).toEqual([
      expect.stringContaining(`${file.path} can be written by others`),
    ]);
  });
});

describe("the configuration file", () => {
  it("the configuration file must exist, be readable and be a regular file", () => {
    const request = { configPath: file.path, flags: {}, env: {}, serves: false };
    expect(messageOf(() => loadSettings(request))).toBe(
      `${file.path}: cannot be read (ENOENT); name a readable file with --config or $KMS_PKCS11_CONFIG`,
    );
    mkdirSync(file.path);
    expect(messageOf(() => loadSettings(request))).toBe(
      `${file.path}: is not a regular file; give a YAML file to --config`,
    );
  });
});

describe("effectiveSettings", () => {
  it("effectiveSettings returns plain data without secrets", () => {
    const key = "pkcs11:token=kms;object=kek;id=%01?module-path=/a.so&pin-source=env:KMS_PIN";
    const moduleParams = "configdir='/etc/nss' tokenPIN='hunter2 hunter2' Password = hunter2 flags=readOnly";
    const settings = loadSettings({
      flags: { key, moduleParams, socket: "/run/kms.sock", stateDir: "/var/lib/kms" },
      env: { KMS_PIN: "hunter2" },
      serves: true,
    });
    const text = JSON.stringify(effectiveSettings(settings));
    expect(text).not.toContain("hunter2");
    expect(JSON.parse(text)).toMatchObject({
      socket: { path: "/run/kms.sock", mode: "0600" },
      tokens: [
        {
          uri: "pkcs11:token=kms;object=kek;id=%01?module-path=/a.so&pin-source=env:KMS_PIN",
          modulePath: "/a.so",
          moduleParameters: "configdir='/etc/nss' tokenPIN=*** Password = *** flags=readOnly",
          pin: "environment variable KMS_PIN",
        },
      ],
    });
  });
});

describe("the audit log", () => {
  const audit = (yaml: string, flags: Flags = {}): Settings["audit"] =>
    file.load(`${MINIMAL}${yaml}`, { flags }).audit;

  it("the audit log is off without a file; its key is in the state directory by default", () => {
    expect(audit("stateDir: /var/lib/kms\n")).toBeUndefined();
    const log = { file: "/var/log/a.log", maxBytes: 100 * 2 ** 20, keep: 10, required: false };
    const inState = { ...log, keyFile: "/var/lib/kms/audit.key" };
    expect(audit("audit: { file: /var/log/a.log }\nstateDir: /var/lib/kms\n")).toEqual(inState);
    expect(audit("audit: { file: /var/log/a.log }\n", { stateDir: "/var/lib/kms" })).toEqual(inState);
    const elsewhere = "audit: { file: /var/log/a.log, keyFile: /etc/k, maxMebibytes: 1, keep: 2 }\n";
    expect(audit(elsewhere)).toEqual({
      file: "/var/log/a.log",
      keyFile: "/etc/k",
      maxBytes: 2 ** 20,
      keep: 2,
      required: false,
    });
  });

  it("the audit log needs a file if it is required", () => {
    const message = messageOf(() => audit("audit: { required: true }\nstateDir: /var/lib/kms\n"));
    expect(message).toBe(`${file.path}:5:1: audit.file: is missing; set it, since audit.required is true`);
    const log = "audit: { file: /var/log/a.log, required: true }\nstateDir: /var/lib/kms\n";
    expect(audit(log)?.required).toBe(true);
  });

  it("the audit log needs a keyFile or a state directory for its key", () => {
    const message = messageOf(() => audit("audit: { file: /var/log/a.log }\n"));
    expect(message).toBe(
      `${file.path}:5:1: audit.keyFile: is missing; set it, or set stateDir, in which a key is then created`,
    );
  });

  const sinks = (yaml: string) =>
    audit(`audit: { file: /var/log/a.log, ${yaml} }\nstateDir: /var/lib/kms\n`)?.sinks;
  const syslog = (yaml: string) => sinks(`syslog: { ${yaml} }`)?.syslog;

  it("the audit log is sent to a syslog socket or a TLS server, and to a file of OCSF events", () => {
    expect(sinks("")).toBeUndefined();
    expect(syslog("address: /dev/log")).toEqual({
      address: { kind: "unix", path: "/dev/log" },
      format: "json",
      facility: "authpriv",
      maxMessageBytes: 2048,
    });
    const tls = "address: 'tls://[::1]:99', format: ocsf, ca: /c, certificate: /d, key: /k, serverName: a.b";
    expect(syslog(tls)).toMatchObject({ address: { host: "::1", port: 99 }, ca: "/c", serverName: "a.b" });
    expect(syslog("address: 'tls://siem'")).toMatchObject({
      address: { kind: "tls", host: "siem", port: 6514 },
    });
    expect(sinks("ocsf: { file: /var/log/o.json }")).toEqual({
      stateDir: "/var/lib/kms",
      ocsf: { file: "/var/log/o.json" },
    });
  });

  it.each([
    ["syslog: { address: 'tcp://siem:514' }", /address: is not a syslog address; give/],
    ["syslog: { address: 'tls://siem:99999' }", /is not a syslog address/],
    ["syslog: { address: /dev/log, ca: /c }", /address: is not a server; ca, certificate/],
    ["syslog: { address: 'tls://siem', key: /k }", /certificate: is missing; a client certificate/],
    ["syslog: { address: 'tls://siem', serverName: 'a b' }", /serverName: is not a DNS name/],
    ["ocsf: { file: /var/log/a.log }", /ocsf\.file: is the audit log itself/],
  ])("the audit log refuses %s", (yaml, message) => {
    expect(messageOf(() => sinks(yaml))).toMatch(message);
  });

  it("the sinks of the audit log need its file", () => {
    const yaml = "audit: { ocsf: { file: /o } }\nstateDir: /var/lib/kms\n";
    expect(messageOf(() => audit(yaml))).toMatch(/audit\.file: is missing; set it, since sinks/);
  });
});
