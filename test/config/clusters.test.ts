// Several clusters in one document: what each gets from the common settings, and what they must not share.

import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { expect, it } from "vitest";

import { clusterSettingsInForce } from "../../src/config/effective-settings.js";
import { loadConfigurations, loadSettings } from "../../src/config/load.js";
import type { LoadRequest } from "../../src/config/settings.js";
import { HEAD, useConfigurationFile } from "./configuration-file.js";
import { messageOf } from "./message-of.js";

const file = useConfigurationFile();

const uri = (object: string, token = "token=kms"): string =>
  `"pkcs11:${token};object=${object}?module-path=/lib/softhsm.so&pin-source=file:/run/pin"`;
const entry = (name: string, more = "", keys = uri(name)): string =>
  `  - { name: ${name}, socket: { path: /run/kms/${name}.sock }, keys: { uri: ${keys} }${more} }\n`;
const document = (entries: string, common = ""): string =>
  `${HEAD}stateDir: /var/lib/kms\naudit: { file: /var/log/kms/audit.log }\n${common}clusters:\n${entries}`;

const request = (more: Partial<LoadRequest> = {}): LoadRequest => ({
  configPath: file.path,
  flags: {},
  env: {},
  serves: false,
  ...more,
});
/** The problems, without the position in the file. */
const problems = (yaml: string, more: Partial<LoadRequest> = {}): string[] =>
  messageOf(() => file.load(yaml, { cluster: "a", ...more }))
    .split("\n")
    .map((line) => line.replace(/^\S*\/config\.yaml:\d+:\d+: /, ""));

it("a cluster has its own socket, KEK, quota, state directory, audit log and cache", () => {
  const yaml = document(
    entry("a", ", requests: 5, cache: { entries: 7 }") + entry("b"),
    "cache: { ttl: 2h }\n",
  );
  const settings = file.load(yaml, { cluster: "a" });
  expect(settings).toMatchObject({
    cluster: { name: "a", requests: 5, commonStateDir: "/var/lib/kms" },
    objectName: "a",
    socket: { path: "/run/kms/a.sock" },
    stateDir: "/var/lib/kms/clusters/a",
    audit: { file: "/var/log/kms/a.audit.log", keyFile: "/var/lib/kms/clusters/a/audit.key" },
    cache: { entries: 7, ttlMs: 7_200_000 },
  });
  expect(loadSettings(request({ cluster: "b" }))).toMatchObject({
    cluster: { name: "b", requests: 32 },
    cache: { entries: 1000 },
  });
  expect(loadConfigurations(request({ serves: true }))).toHaveLength(2);
});

it("without --cluster, or with an unknown one, the message names the clusters", () => {
  const yaml = document(entry("alpha") + entry("beta"));
  expect(messageOf(() => file.load(yaml))).toContain("give one of alpha, beta");
  expect(messageOf(() => file.load(yaml, { cluster: "alpa" }))).toContain("did you mean alpha?");
  const single = `${HEAD}keys: { uri: ${uri("a")} }\n`;
  expect(messageOf(() => file.load(single, { cluster: "a" }))).toContain("names no clusters");
});

it("each problem of a cluster is reported once, at its entry", () => {
  const yaml = document(
    entry("a", ", cache: { entries: many }") + entry("B_", "", uri("b")) + "  - { name: c, sockets: {} }\n",
    "keys: {}\nmode: wrong\n",
  );
  const found = problems(yaml);
  expect(found).toEqual([...new Set(found)]);
  expect(found).toEqual(
    expect.arrayContaining([
      "keys: is not common to clusters; move it to clusters[].keys",
      expect.stringMatching(/^mode: is "wrong"/),
      expect.stringMatching(/^clusters\[0\]\.cache\.entries: is "many"; give a whole number/),
      expect.stringMatching(/^clusters\[1\]\.name: cannot name a cluster/),
      expect.stringMatching(/^clusters\[2\]\.sockets: is not a setting; did you mean socket\?/),
      expect.stringMatching(/^clusters\[2\]\.keys: is missing/),
    ]),
  );
});

it.each([
  ["one name", entry("a") + entry("a", "", uri("b")), /^clusters\[1\]\.name: is the name of another cluster/],
  [
    "one socket",
    entry("a") + entry("b", ", failover: []").replace("b.sock", "a.sock"),
    /^clusters\[1\]\.socket\.path: is the socket of cluster a/,
  ],
  [
    "one audit log",
    entry("a", ", audit: { file: /log/x }") + entry("b", ", audit: { file: /log/x }"),
    /^clusters\[1\]\.audit\.file: is the audit log of cluster a/,
  ],
  [
    "one KEK",
    entry("a") + entry("b", "", uri("a")),
    /^clusters\[1\]\.keys\.uri: may name the KEK of cluster a/,
  ],
  [
    "a KEK on tokens that may be the same",
    entry("a") + entry("b", "", uri("a", "serial=17")),
    /^clusters\[1\]\.keys\.uri: may name the KEK of cluster a/,
  ],
  [
    "a token with two PIN sources",
    entry("a") + entry("b", "", uri("b").replace("/run/pin", "/run/other")),
    /^clusters\[1\]\.keys\.uri: has another PIN source than cluster a/,
  ],
])("two clusters with %s are refused", (_what, entries, message) => {
  expect(problems(document(entries)).some((line) => message.test(line))).toBe(true);
});

it("two clusters that name one KEK through two paths of one library are refused", () => {
  const folder = mkdtempSync(join(tmpdir(), "kms-module-"));
  const [library, link] = [join(folder, "softhsm.so"), join(folder, "link.so")];
  writeFileSync(library, "");
  symlinkSync(library, link);
  const at = (path: string): string => uri("kek").replace("/lib/softhsm.so", path);
  const found = problems(document(entry("a", "", at(library)) + entry("b", "", at(link))));
  rmSync(folder, { recursive: true });
  expect(found).toContainEqual(expect.stringMatching(/^clusters\[1\]\.keys\.uri: may name the KEK of/));
});

it("two clusters with one socket or audit log under two paths are refused", () => {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "kms-folder-")));
  const [real, link] = [join(folder, "real"), join(folder, "link")];
  mkdirSync(real);
  symlinkSync(real, link);
  writeFileSync(join(real, "x.log"), "");
  symlinkSync(join(real, "x.log"), join(folder, "y.log"));
  const at = (name: string, socket: string, log: string): string =>
    entry(name, `, audit: { file: ${log} }`).replace(`/run/kms/${name}.sock`, socket);
  const paths = [
    [join(link, "a.sock"), join(link, "a.log")],
    [`${folder}//real/../real/a.sock`, `${folder}/./real/a.log`],
    [join(real, "b.sock"), join(folder, "y.log")],
  ] as const;
  const found = paths.map(([socket, log], which) => {
    const first =
      which === 2
        ? at("a", join(real, "a.sock"), join(real, "x.log"))
        : at("a", join(real, "a.sock"), join(real, "a.log"));
    return problems(document(first + at("b", socket, log))).map((line) => line.replace(/ too;.*/, ""));
  });
  rmSync(folder, { recursive: true });
  const isSocket = "clusters[1].socket.path: is the socket of cluster a";
  const isLog = "clusters[1].audit.file: is the audit log of cluster a";
  expect(found[0]).toEqual([isSocket, isLog]);
  expect(found[1]).toEqual(expect.arrayContaining([isLog]));
  expect(found[2]).toEqual([isLog]);
});

it("a cluster's audit log may not be another's copy in OCSF", () => {
  const ocsf = "audit: { file: /var/log/kms/audit.log, ocsf: { file: /var/log/kms/o.log } }\n";
  const yaml = document(entry("a") + entry("b", ", audit: { file: /var/log/kms/a.o.log }")).replace(
    "audit: { file: /var/log/kms/audit.log }\n",
    ocsf,
  );
  expect(problems(yaml)).toContainEqual(
    expect.stringMatching(/^clusters\[1\]\.audit\.file: is the audit log of/),
  );
});

it("what two clusters share is reported at its entry even if an earlier one is invalid", () => {
  const found = problems(
    document(entry("a", ", cache: { entries: many }") + entry("b") + entry("b", "", uri("c"))),
  );
  expect(found.filter((line) => line.includes("is the name of another"))).toEqual([
    expect.stringMatching(/^clusters\[2\]\.name: /),
  ]);
});

it("an unknown setting beside the path of the OCSF file is reported", () => {
  const yaml = document(entry("a")).replace(
    "audit.log }",
    "audit.log, ocsf: { file: /log/ocsf, files: x } }",
  );
  expect(problems(yaml)).toEqual([expect.stringMatching(/^audit\.ocsf\.files: is not a setting/)]);
});

it("the same KEK name on two different tokens is accepted", () => {
  const yaml = document(entry("a", "", uri("kek")) + entry("b", "", uri("kek", "token=other")));
  expect(file.load(yaml, { cluster: "b" }).objectName).toBe("kek");
});

it("an empty list of clusters, and options of serve for one cluster, are refused", () => {
  expect(problems(`${HEAD}clusters: []\n`, { serves: true })).toEqual([
    "clusters: is empty; name a cluster, or remove it",
  ]);
  const flags = { socket: "/run/x.sock" };
  expect(problems(document(entry("a")), { serves: true, flags })).toEqual([
    "clusters: excludes --socket, which concerns one cluster; set clusters[].socket.path",
  ]);
});

it("the settings in force are the common ones and those of each cluster", () => {
  file.load(document(entry("a") + entry("b")), { cluster: "a" });
  const rows = clusterSettingsInForce(loadConfigurations(request()));
  const settings = rows.map(({ setting }) => setting);
  expect(settings).toEqual([...new Set(settings)]);
  expect(rows.find(({ setting }) => setting === "clusters[1].stateDir")?.value).toBe(
    "/var/lib/kms/clusters/b",
  );
  expect(settings).toContain("hsm.requestTimeout");
  expect(settings.some((setting) => setting.startsWith("socket."))).toBe(false);
});
