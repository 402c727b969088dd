// The plugin as a systemd unit in a booted Debian, through everything that happens to a unit. The cases share the machine and run
// in this order; each leaves the unit running.

import { copyFile, mkdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { afterAll, beforeAll, expect, inject, it } from "vitest";
import { record } from "../e2e/harness/report.js";
import { binaries } from "../e2e/harness/run.js";
import { until } from "../e2e/harness/wait.js";
import { BootedDebian } from "./harness/booted-debian.js";
import { commandOf, followGuide } from "./harness/guide.js";
import { A_DAY_MS, lookAround } from "./harness/look-around.js";
import { NetworkHsm, PIN } from "./harness/network-hsm.js";
import { startControlPlane } from "./harness/unit-control-plane.js";

const INSTALL = "/opt/install";
const GUIDE = "install-systemd.md";
const PACKAGE = "kubernetes-kms-pkcs11";
const OLD = `${INSTALL}/${PACKAGE}-0.1.0-linux-x64.deb`;
/** The release that upgrade.md names. */
const NEXT = "0.2.0";
const NEXT_FILE = `${PACKAGE}-${NEXT}-linux-x64.deb`;
/** What follows a package in upgrade.md. */
const RESTART = ["The node's files", "A unit", "After each node"];
const ENCRYPTION = "/etc/kubernetes/encryption/encryption-configuration.yaml";
const READ = "kubectl --kubeconfig /etc/kubernetes/admin.conf get secret early -o jsonpath={.data.password}";
const KMS = "/etc/kms-pkcs11";
const PIN_FILE = "/etc/kms-pkcs11/credentials/pin";
const DROP_IN = "/etc/systemd/system/kms-pkcs11.service.d/pin.conf";
const ROUND_TRIP = "kms-pkcs11 status --round-trip --wait 60s";

const folder = join(inject("runFolder"), "debian");
const machine = new BootedDebian(join(folder, "root"), [
  `--bind=${join(folder, "hsm")}:/opt/hsm`,
  `--bind-ro=${binaries()}:/opt/kubernetes`,
]);
const hsm = new NetworkHsm(join(folder, "hsm"), join(folder, "token"));

beforeAll(async () => {
  await hsm.create();
  const start = Date.now();
  await machine.install();
  const install = join(machine.root, INSTALL);
  await mkdir(install, { recursive: true });
  const deb = inject("tarball").replace(/\.tar\.gz$/, ".deb");
  await copyFile(deb, join(install, basename(deb)));
  await copyFile(join(inject("archives"), NEXT_FILE), join(install, NEXT_FILE));
  await machine.boot();
  record("systemd", "unpacked and booted, s", (Date.now() - start) / 1000);
  await startControlPlane(machine);
  const installed = Date.now();
  const steps = await followGuide(machine, GUIDE, { folder: INSTALL, typed: PIN });
  record("systemd", `installed by ${steps} commands, s`, (Date.now() - installed) / 1000);
}, 900_000);

afterAll(async () => {
  await lookAround(machine, join(folder, "running"));
  await hsm.kill();
  await machine.pullPlug();
}, A_DAY_MS);

async function property(name: string): Promise<string> {
  return (await machine.run(`systemctl show --value -p ${name} kms-pkcs11`)).trim();
}

async function publishedKeyId(): Promise<string> {
  return (JSON.parse(await machine.run("kms-pkcs11 status -o json")) as { keyId: string }).keyId;
}

/** Runs the commands of these sections of a page of deploy/, as the operator who has installed the plugin. */
async function follow(page: string, sections: readonly string[]): Promise<void> {
  await followGuide(machine, page, { folder: INSTALL, typed: PIN, sections, after: GUIDE });
}

async function roundTrip(section: string, since: number): Promise<void> {
  await machine.run(ROUND_TRIP, { timeoutMs: 90_000 });
  record(section, "round trip after, s", (Date.now() - since) / 1000);
}

/** Waits until the API server, which was started without the plugin, fails to read the Secret. */
async function untilUnreadable(): Promise<void> {
  await until(
    "reads that fail for want of the plugin",
    async () => /transform|decrypt|kms/i.test((await machine.try(`timeout 10 ${READ}`)).stderr),
    { timeoutMs: 120_000, intervalMs: 500 },
  );
}

async function untilReadable(): Promise<void> {
  await until("the Secret", async () => (await machine.run(`timeout 10 ${READ}`)) !== "", {
    timeoutMs: 300_000,
    intervalMs: 1000,
  });
}

it("LoadCredential: the unit runs, and only its own user reads the PIN", async () => {
  expect(await property("ActiveState")).toBe("active");
  expect(await property("NRestarts")).toBe("0");
  expect(await machine.run(`stat -c '%U %a' ${PIN_FILE}`)).toBe("root 600\n");
  expect(await machine.run("kms-pkcs11 check --config /etc/kms-pkcs11/config.yaml")).toContain("round trip");
});

it("security: systemd-analyze rates the running unit below 2.0", async () => {
  const rating = await machine.run("systemd-analyze security --no-pager kms-pkcs11.service | tail -n 1");
  const exposure = Number(/: (\d+\.\d+) /.exec(rating)?.[1]);
  record("security", "exposure", exposure);
  expect(exposure).toBeLessThan(2);
});

it("SIGKILL: systemd starts the plugin again, with the same PIN", async () => {
  const before = await property("MainPID");
  const start = Date.now();
  await machine.run(`kill -KILL ${before}`);
  await until("another process", async () => !["0", before].includes(await property("MainPID")));
  await roundTrip("SIGKILL", start);
});

it("reload: the page's command makes a changed file take effect, without a restart", async () => {
  const before = await property("MainPID");
  await machine.run("sed -i '$a log: { level: debug }' /etc/kms-pkcs11/config.yaml");
  await machine.run(await commandOf("configuration.md", "systemctl reload"));
  const journal = "journalctl -u kms-pkcs11 -o cat -n 200";
  await until("the new setting", async () =>
    /log\.level.*a changed setting is in force/.test(await machine.run(journal)),
  );
  await machine.run("sed -i '$d' /etc/kms-pkcs11/config.yaml");
  await machine.run(await commandOf("configuration.md", "systemctl reload"));
  expect(await property("MainPID")).toBe(before);
});

it("reboot: the unit starts by itself", async () => {
  await machine.pullPlug();
  const start = Date.now();
  await machine.boot();
  await roundTrip("reboot", start);
  expect(await property("NRestarts")).toBe("0");
});

it("PIN file: without it unit and API server try again, until the file is back", async () => {
  await machine.run(`mv ${PIN_FILE} ${PIN_FILE}.away`);
  await machine.try("systemctl restart kms-pkcs11");
  await until("several attempts", async () => Number(await property("NRestarts")) >= 3);
  const journal = "journalctl -u kms-pkcs11 -o cat -n 100";
  await until("the journal's reason", async () => /credentials/i.test(await machine.run(journal)));
  await machine.run("systemctl restart kube-apiserver");
  await untilUnreadable();
  const start = Date.now();
  await machine.run(`mv ${PIN_FILE}.away ${PIN_FILE}`);
  await roundTrip("PIN file", start);
  await untilReadable();
  record("PIN file", "Secret readable after, s", (Date.now() - start) / 1000);
});

it("environment: root's commands use the variables that only the unit knows", async () => {
  const address = "Environment=VENDOR_HSM_ADDRESS=unix:path=/opt/hsm/run/elsewhere.sock";
  await machine.run("mv /opt/hsm/run/hsm.sock /opt/hsm/run/elsewhere.sock");
  const dropIn = "/etc/systemd/system/kms-pkcs11.service.d/hsm.conf";
  await machine.run(`install -D -m 0644 /dev/stdin ${dropIn}`, { input: `[Service]\n${address}\n` });
  await machine.run("systemctl daemon-reload && systemctl restart kms-pkcs11");
  await machine.run(ROUND_TRIP, { timeoutMs: 90_000 });
  expect(await machine.run("kms-pkcs11 keys list")).toContain("active");
  await machine.run(`mv /opt/hsm/run/elsewhere.sock /opt/hsm/run/hsm.sock && rm ${dropIn}`);
  // Commands ask systemd for the unit's variables.
  await machine.run("systemctl daemon-reload && systemctl restart kms-pkcs11");
  await machine.run(ROUND_TRIP, { timeoutMs: 90_000 });
});

it("upgrade: the page's commands restart the unit, which keeps its KEK", async () => {
  const [before, keyId] = [await property("MainPID"), await publishedKeyId()];
  const start = Date.now();
  await follow("upgrade.md", ["Before each node", "The package", ...RESTART]);
  record("upgrade", "package and files by the page's commands, s", (Date.now() - start) / 1000);
  expect(await machine.run("kms-pkcs11 version")).toContain(NEXT);
  expect(await property("MainPID")).not.toBe(before);
  expect(await publishedKeyId()).toBe(keyId);
});

it("upgrade half way: the unit continues while dpkg is interrupted, and dpkg can be repeated", async () => {
  await machine.run(`apt-get install -y --allow-downgrades ${OLD}`, { timeoutMs: 120_000 });
  await machine.run(ROUND_TRIP, { timeoutMs: 90_000 });
  const before = await property("MainPID");
  const unpacking = "find /opt/kms-pkcs11 -name '*.dpkg-new' | grep -q .";
  const killed = `dpkg -i ${INSTALL}/${NEXT_FILE} & dpkg=$!; until ${unpacking}; do :; done; kill -KILL $dpkg`;
  await machine.run(killed, { timeoutMs: 120_000 });
  await machine.run(ROUND_TRIP, { timeoutMs: 90_000 });
  expect(await property("MainPID")).toBe(before);
  await machine.try("dpkg --configure -a", { timeoutMs: 120_000 });
  await follow("upgrade.md", ["The package", ...RESTART]);
  expect(await machine.run("kms-pkcs11 version")).toContain(NEXT);
});

it("upgrade back: the earlier package serves with the same KEK", async () => {
  const keyId = await publishedKeyId();
  await machine.run(`apt-get install -y --allow-downgrades ${OLD}`, { timeoutMs: 120_000 });
  await follow("upgrade.md", RESTART);
  expect(await machine.run("kms-pkcs11 version")).not.toContain(NEXT);
  expect(await publishedKeyId()).toBe(keyId);
});

it("LoadCredentialEncrypted: the unit runs with a PIN that the disk holds only encrypted", async () => {
  const encrypted = "/etc/kms-pkcs11/credentials/pin.cred";
  await machine.run(
    `systemd-creds encrypt --with-key=host --name=pin ${PIN_FILE} ${encrypted} && rm ${PIN_FILE}`,
  );
  const dropIn = `[Service]\nLoadCredential=\nLoadCredentialEncrypted=pin:${encrypted}\n`;
  await machine.run(`install -D -m 0644 /dev/stdin ${DROP_IN}`, { input: dropIn });
  const start = Date.now();
  await machine.run("systemctl daemon-reload && systemctl restart kms-pkcs11");
  await roundTrip("LoadCredentialEncrypted", start);
  expect(await machine.run(`cat ${encrypted}`)).not.toContain(PIN);
  await machine.pullPlug();
  await machine.boot();
  await machine.run(ROUND_TRIP, { timeoutMs: 90_000 });
});

it("removal too early: the package refuses, and the plugin continues", async () => {
  const { code, stderr } = await machine.try(`dpkg -r ${PACKAGE}`);
  expect(code).not.toBe(0);
  expect(stderr).toContain(`not removed, since kube-apiserver uses the plugin through ${ENCRYPTION}`);
  await machine.run(ROUND_TRIP, { timeoutMs: 90_000 });
  expect(await machine.run(`dpkg-query -W -f '\${db:Status-Status}' ${PACKAGE}`)).toBe("installed");
});

it("removal by force: Secrets are unreadable after a restart, until the package is back", async () => {
  const keyId = await publishedKeyId();
  await machine.run(`touch /run/kms-pkcs11-remove-anyway && dpkg -r ${PACKAGE} && dpkg -P ${PACKAGE}`);
  expect((await machine.try("systemctl is-active kms-pkcs11")).stdout).toBe("inactive\n");
  expect((await machine.try("ls /opt/kms-pkcs11 /usr/bin/kms-pkcs11")).code).not.toBe(0);
  await machine.run(`test -s ${KMS}/config.yaml -a -s ${KMS}/credentials/pin.cred && id kms-pkcs11`);
  expect(await machine.run("ls /var/lib/kms-pkcs11")).not.toBe("");
  await machine.run("systemctl restart kube-apiserver");
  await untilUnreadable();
  const start = Date.now();
  await machine.run(`dpkg -i ${OLD} && systemctl enable --now --quiet kms-pkcs11`, { timeoutMs: 120_000 });
  await roundTrip("removal", start);
  expect(await publishedKeyId()).toBe(keyId);
  await untilReadable();
  record("removal", "Secret readable after the package is back, s", (Date.now() - start) / 1000);
});

it("removal: the page's commands store Secrets in clear, and leave only what it names", async () => {
  const start = Date.now();
  await follow("removal.md", [
    ...["Write in clear", "Prove it", "An API server as a unit", "The package", "The rest of the plugin"],
  ]);
  record("removal", "by the page's commands, s", (Date.now() - start) / 1000);
  const value = await machine.run(READ);
  expect(Buffer.from(value, "base64").toString()).toBe("stored-in-clear");
  const stored = "etcdctl get --print-value-only /registry/secrets/default/early";
  expect(await machine.run(stored)).toContain("stored-in-clear");
  const left = `find / /run -xdev -path ${INSTALL} -prune -o -name '*kms-pkcs11*' -print -prune | sort`;
  expect(await machine.run(left)).toBe("/var/lib/kms-pkcs11\n/var/log/kms-pkcs11\n");
  expect((await machine.try("systemctl is-system-running")).stdout).toMatch(/running|degraded/);
});
