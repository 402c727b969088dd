// Records the commands of a newcomer and takes the screenshots of the page: pictures.js COPY FOLDER
// COPY is a clean clone with its npm packages; the pictures are written to FOLDER.
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { hostname, userInfo } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { chromium } from "playwright-core";
import { terminalSvg } from "./terminal-svg.js";

const MAX_BYTES = 100_000;
const PAGE = "http://127.0.0.1:8090";
const [copy, folder] = process.argv.slice(2);
const shown = "~/kubernetes-kms-pkcs11";
/** Time for which the new KEK is standby in the recording. */
const ACTIVATE_IN = "40s";

const environment = {
  ...process.env,
  SOFTHSM2_CONF: join(copy, ".dev/softhsm2.conf"),
  KMS_PKCS11_CONFIG: join(copy, ".dev/config.yaml"),
};

/** Runs a command in the copy, and adds it and its output to the lines. Resolves when it ends, or prints `last`. */
async function record(lines, command, { run = command, last } = {}) {
  lines.push({ text: command, atMs: performance.now(), kind: "command" });
  const shell = `kms-pkcs11() { node dist/main.js "$@"; }\n{ ${run}\n} 2>&1`;
  const child = spawn("bash", ["-c", shell], { cwd: copy, env: environment, detached: true });
  const reader = createInterface({ input: child.stdout });
  let isDone = false;
  for await (const line of reader) {
    lines.push({ text: line.replaceAll(copy, shown).trimEnd(), atMs: performance.now() });
    isDone ||= last !== undefined && line.includes(last);
    if (isDone) break;
  }
  if (!isDone && child.exitCode === null) await new Promise((resolve) => child.once("exit", resolve));
  if (!isDone && child.exitCode !== 0) {
    throw new Error(`${command}: exit ${child.exitCode}\n${lines.map(({ text }) => text).join("\n")}`);
  }
  return child;
}

const remark = (text) => ({ text, atMs: performance.now(), kind: "remark" });

async function photograph() {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
  for (const colorScheme of ["light", "dark"]) {
    const page = await browser.newPage({ viewport: { width: 900, height: 730 }, colorScheme });
    await page.goto(PAGE);
    const picture = await page.screenshot();
    await page.close();
    write(`page-${colorScheme}.png`, picture);
  }
  await browser.close();
}

/** Writes a picture, unless it is too large or names this machine, its user, a path or the PIN. */
function write(name, picture) {
  if (picture.length > MAX_BYTES) throw new Error(`${name} has ${picture.length} bytes`);
  const text = picture.toString();
  const secrets = ["pin", "so-pin"].map((file) => readFileSync(join(copy, ".dev", file), "utf8"));
  const paths = [copy, process.cwd(), "/tmp/", "/home/", "/root/"];
  const users = [hostname(), userInfo().username].filter((word) => word.length > 3 && word !== "root");
  for (const word of [...secrets, ...paths, ...users]) {
    if (name.endsWith(".svg") && text.includes(word)) throw new Error(`${name} names this machine: ${word}`);
  }
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, name), picture);
  console.log(`${join(folder, name)}  ${picture.length} bytes`);
}

const quickstart = [];
const plugin = await record(quickstart, "scripts/quickstart", { last: "To clean up" });
try {
  write(
    "quickstart.svg",
    Buffer.from(terminalSvg("scripts/quickstart, from a clone to a running plugin", quickstart)),
  );
  const rotation = [];
  await record(rotation, "kms-pkcs11 status --socket .dev/kms.sock");
  await record(rotation, `kms-pkcs11 keys rotate --activate-in ${ACTIVATE_IN} --wait --nodes ${PAGE}`);
  const made = performance.now();
  rotation.push(remark(`# ${ACTIVATE_IN} later; kube-apiserver asks for the status every minute:`));
  await pause(Number.parseInt(ACTIVATE_IN) * 1_000 - (performance.now() - made) + 2_000);
  await record(rotation, "kms-pkcs11 status --socket .dev/kms.sock --round-trip");
  await record(rotation, `curl -s ${PAGE}/readyz`);
  write(
    "rotation.svg",
    Buffer.from(terminalSvg("A rotation: the new KEK is standby, then active", rotation)),
  );
  const hidden = [];
  await record(hidden, `kms-pkcs11 keys rotate --activate-in 90s --wait --nodes ${PAGE}`);
  await record(hidden, "for n in $(seq 5); do kms-pkcs11 status --round-trip --socket .dev/kms.sock; done");
  await pause(2_000);
  await photograph();
} finally {
  process.kill(-plugin.pid, "SIGINT");
}
