// The problems of a configuration: all are reported at once, each with its path and what to do, and none with a PIN.
import fc from "fast-check";
import { expect, it } from "vitest";
import { problemsOf } from "../../src/config/problems.js";
import type { LoadRequest } from "../../src/config/settings.js";
import { KmsError } from "../../src/errors.js";
import { HEAD, MINIMAL, URI, useConfigurationFile } from "./configuration-file.js";
import { messageOf } from "./message-of.js";

const file = useConfigurationFile();

/** Without the position in the file. */
const problems = (yaml: string, request: Partial<LoadRequest> = {}): string[] =>
  messageOf(() => file.load(yaml, request))
    .split("\n")
    .map((line) => line.replace(/^\S*\/config\.yaml:\d+:\d+: /, ""));

it("loadSettings reports all problems at once, including those that involve several options", () => {
  const yaml = `apiVersion: kms-pkcs11.dev/v2
kind: PluginConfiguration
sockets: {}
socket: { path: "@kms", mode: 600, group: kms }
keys: { uri: "pkcs11:token=kms;object=kms-kek", refreshIntervall: 10s }
pin: { file: /run/pin, env: KMS_PIN }
failover:
  - { uri: "pkcs11:token=b;object=other?module-path=/b.so" }
  - { module: { path: b.so } }
hsm: { requestTimeout: 2, hosts: 9, sessions: "16" }
uri: x
`;
  expect(problems(yaml)).toEqual([
    'apiVersion: is "kms-pkcs11.dev/v2"; give kms-pkcs11.dev/v1',
    'socket.mode: is 600; give "0600", or "0660" with socket.group',
    "keys.refreshIntervall: is not a setting; did you mean refreshInterval?",
    expect.stringMatching(/^failover\[1\]\.uri: is missing; give a PKCS#11 URI \(RFC 7512\) such as pkcs11:/),
    "failover[1].module.path: is not an absolute path; begin it with /",
    "hsm.requestTimeout: is 2 without a unit; give 2s",
    "hsm.hosts: is 9; give a whole number from 1 to 4",
    'hsm.sessions: is "16"; give a whole number from 1 to 64',
    "sockets: is not a setting; did you mean socket?",
    "uri: is not a setting; did you mean keys.uri?",
    "socket.path: is an abstract socket, which has no access control; give a path, or set socket.allowAbstract to true",
    "keys.uri: does not name a library; add module-path=/path/to/library.so to it, or set module.path",
    "pin: gives file and env; keep one",
    "failover[0].uri: names a different KEK than keys.uri; give object=kms-kek",
  ]);
});

it.each([
  [
    "hsm: { requestTimeout: 3s }",
    'hsm.requestTimeout: is "3s", which is out of range; give 100ms to 2900ms, such as 2s',
  ],
  ["hsm: { requestTimeout: 2000 }", "hsm.requestTimeout: is 2000 without a unit; give 2000ms"],
  ["cache: { ttl: 30 }", "cache.ttl: is 30 without a unit; give 30s or 30m"],
  ["cache: { ttl: 1d }", 'cache.ttl: is "1d", which is not a duration; give 1s to 24h, such as 1h'],
  ["cache: { entries: 1.5 }", "cache.entries: is 1.5; give a whole number from 0 to 1000000"],
  ["cache:", "cache: is empty; give a mapping with entries, ttl, outageTtl, remember"],
  ["cache: [1]", "cache: is a list; give a mapping with entries, ttl, outageTtl, remember"],
  ["failover: {}", "failover: is a mapping; give a list"],
  ["hsm: { allowFinalTry: 'yes' }", 'hsm.allowFinalTry: is "yes"; give true or false'],
  ["keys2: 1", "keys2: is not a setting; did you mean keys?"],
  ["log: { level: null }", "log.level: is empty; give debug, info, warn, error"],
  ["stateDir: ./state", "stateDir: is not an absolute path; begin it with /"],
  ["module: { path: a.so }", "module.path: is not an absolute path; begin it with /"],
  [
    "http: { address: 8090 }",
    "http.address: is 8090; give a loopback address such as 127.0.0.1:8090, or off",
  ],
  [
    "http: { address: '127.0.0.1' }",
    "http.address: is not an address with a port from 0 to 65535; give one such as 127.0.0.1:8090, or off",
  ],
  [
    "http: { address: '10.0.0.1:80' }",
    "http.address: is not a loopback address; give 127.0.0.1:80, [::1]:80 or off",
  ],
  [
    "http: { address: '127.0.0.1.example.org:80' }",
    "http.address: is not a loopback address; give 127.0.0.1:80, [::1]:80 or off",
  ],
  [
    "socket: { path: kms.sock }",
    "socket.path: is not a unix socket's address; give one such as unix:///run/kms-pkcs11/kms.sock",
  ],
  [
    "socket: { path: 'tcp://127.0.0.1:1' }",
    "socket.path: is not a unix socket's address; give one such as unix:///run/kms-pkcs11/kms.sock",
  ],
  [
    "socket: { mode: '0666' }",
    'socket.mode: gives every user access; give "0600", or "0660" with socket.group',
  ],
  [
    "socket: { mode: '0400' }",
    'socket.mode: is not a usable socket mode; give "0600", or "0660" with socket.group',
  ],
  ["socket: { group: kms }", 'socket.group: cannot connect with this socket.mode; set socket.mode to "0660"'],
  ["socket: { group: 'a b' }", 'socket.group: is "a b"; give a group\'s name or number'],
  ["failover: [{ uri: '" + URI + "' }]", "failover[0].uri: repeats another token's URI; remove it"],
])("loadSettings refuses %s", (line, problem) => {
  expect(problems(`${MINIMAL}${line}\n`)).toEqual([problem]);
});

it("loadSettings names the position of each problem, or the section that lacks a setting", () => {
  const yaml = `${HEAD}
keys:
  refreshInterval: 1d
pin: { file: /run/pin,
       env: KMS_PIN }
failover:
  - uri: pkcs11:x
  - module:
      path: b.so
`;
  const lines = messageOf(() => file.load(yaml, { serves: true })).split("\n");
  const places = lines.map((line) => /^(\S+\.yaml):(\d+:\d+: [^:]+):/.exec(line)?.slice(1) ?? line);
  expect(places).toEqual(
    [
      "4:1: keys.uri",
      "5:3: keys.refreshInterval",
      "9:5: failover[0].uri",
      "10:5: failover[1].uri",
      "11:7: failover[1].module.path",
      "1:1: socket.path",
      "1:1: stateDir",
    ].map((place) => [file.path, place]),
  );
});

it("loadSettings names the position of an unknown setting, but the flag if a flag is at fault", () => {
  const message = messageOf(() => file.load(`${MINIMAL}hsm:\n  host: 2\n`, { flags: { mode: "x" } }));
  expect(message.split("\n")).toEqual([
    '--mode: is "x"; give direct, local-kek',
    `${file.path}:6:3: hsm.host: is not a setting; did you mean hosts?`,
  ]);
});

it.each([
  [
    "pin: { custody: /etc/pin.sealed }",
    "pin.custody: needs the socket on which custodians unlock the plugin; set unlock beside it, and no other PIN source",
  ],
  ["pin: { file: /run/pin }", "pin: gives file although keys.uri has a pin-source; keep one"],
  [
    `failover: [{ uri: "${URI.replace("kms;", "b;")}", pin: { env: PIN } }]`,
    "failover[0].pin: gives env although failover[0].uri has a pin-source; keep one",
  ],
])("loadSettings refuses a PIN source beside a URI that has one: %s", (line, problem) => {
  expect(problems(`${MINIMAL}${line}\n`)).toEqual([problem]);
});

it("a pin-source in --key replaces the PIN source of the file", () => {
  const yaml = `${HEAD}keys: { uri: "pkcs11:token=a;object=kms-kek?module-path=/a.so" }\npin: { file: /run/other }\n`;
  expect(file.load(yaml, { flags: { key: URI } }).tokens[0].pin).toEqual({ kind: "file", path: "/run/pin" });
});

it("loadSettings refuses a credential where systemd provides none", () => {
  const bare = MINIMAL.replace("&pin-source=file:/run/pin", "");
  expect(problems(`${bare}pin: { credential: kms-pin }\n`)).toEqual([
    "pin: $CREDENTIALS_DIRECTORY is not set; run under systemd with LoadCredential=kms-pin:/path, or use a file",
  ]);
});

it("loadSettings limits a socket path by bytes, not characters", () => {
  const path = `/${"ü".repeat(53)}`;
  expect(file.load(`${MINIMAL}socket: { path: "unix://${path}" }\n`).socket?.path).toBe(path);
  expect(problems(`${MINIMAL}socket: { path: "${path}x" }\n`)).toEqual([
    "socket.path: is 108 bytes long; give at most 107, the limit of a unix socket's address",
  ]);
});

it("loadSettings accepts an abstract socket if socket.allowAbstract is true", () => {
  const { socket } = file.load(`${MINIMAL}socket: { path: "unix:///@kms", allowAbstract: true }\n`);
  expect(socket).toEqual({ path: "kms", abstract: true, mode: 0o600 });
});

it.each([
  "pin: hunter2",
  "pin: { value: hunter2 }",
  "pin: { hunter2: }",
  "pin: { file: hunter2 }",
  "pin: { env: 'hunter2!' }",
  "pin: hunter2: x",
  "pin: [hunter2]",
  "pin: *hunter2",
  "pin: 'hunter2",
  'pin: "\\hunter2"',
  "pin: !hunter2 a",
  "module: { parameters: [hunter2] }",
  'module: { parameters: "hunter2\\0" }',
])("loadSettings does not repeat a misplaced PIN: %s", (line) => {
  expect(problems(`${MINIMAL}${line}\n`).join("\n")).not.toContain("hunter2");
});

it("loadSettings does not repeat a pin-value from the file or from a flag", () => {
  const uri = "pkcs11:object=kek?module-path=/a.so&pin-value=hunter2";
  for (const lines of [
    problems(`${HEAD}keys: { uri: "${uri}" }\n`),
    problems(MINIMAL, { flags: { key: uri } }),
  ]) {
    expect(lines).toEqual([
      expect.stringMatching(/^(keys\.uri|--key): pin-value is refused.*use pin-source=file:\/path$/),
    ]);
  }
});

it("loadSettings returns settings or throws CONFIG_INVALID for any bytes", () => {
  const part = fc.constantFrom(
    HEAD,
    MINIMAL,
    "pin: ",
    "hsm:\n  ",
    "&a ",
    "*a",
    "? ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "'",
    '"',
    ": ",
    "\n",
    "\t",
    "!!binary ",
    "%YAML 1.1\n---\n",
    "<<: ",
    "__proto__: ",
    "failover: ",
    "~",
    "0x1",
    "10m",
  );
  const nearlyYaml = fc
    .array(fc.oneof(part, fc.string({ maxLength: 4 })), { maxLength: 20 })
    .map((parts) => Buffer.from(parts.join("")));
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array(), nearlyYaml), (bytes) => {
      try {
        file.load(bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(KmsError);
        expect(error).toHaveProperty("code", "CONFIG_INVALID");
        expect(error).toHaveProperty(
          "message",
          expect.stringMatching(/^([^\n]+: [^\n]+\n?)+(and \d+ more problems)?$/),
        );
      }
    }),
    { numRuns: 1000 },
  );
});

it("loadSettings reports the first 100 problems of a file with 50,000 unknown settings", () => {
  const lines = problems(Array.from({ length: 50_000 }, (_, index) => `k${index}:\n`).join(""));
  expect(lines).toHaveLength(101);
  expect(lines.at(-1)).toMatch(/^and [0-9]+ more problems$/);
});

it("loadSettings suggests names for the first 100 unknown settings only", () => {
  const keys = Array.from({ length: 90_000 }, (_, at) => `unknown${at}`);
  const found = problemsOf({ code: "unrecognized_keys", keys, path: [], message: "", input: {} }, {});
  expect(found).toHaveLength(90_000);
  expect(found[99]?.text).toContain("give one of");
  expect(new Set(found.slice(100).map(({ text }) => text))).toEqual(new Set(["is not a setting"]));
});
