// Nodes that are reached through ssh: a real sshd on loopback, one tunnel for each node, ssh's reasons in errors, and that
// nothing is left when the command ends.

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";

import { readNode } from "../../src/admin/node-client.js";
import { readNodes } from "../../src/admin/node-comparison.js";
import { parseNodeAddress } from "../../src/config/node-address.js";
import { FakeNodes } from "../support/fake-nodes.js";
import { freePort } from "../support/free-port.js";
import { Sshd } from "../support/sshd.js";
import { waitFor } from "../support/wait.js";

const CLIENT = new URL("../../dist/admin/node-client.js", import.meta.url).href;
const ADDRESS = new URL("../../dist/config/node-address.js", import.meta.url).href;

let sshd: Sshd;
let sockets: string;
const nodes = new FakeNodes();
const before = { PATH: process.env["PATH"], TMPDIR: process.env["TMPDIR"] };

beforeAll(async () => {
  sshd = await Sshd.start();
  sockets = mkdtempSync(join(tmpdir(), "kms-ssh-test-"));
  process.env["PATH"] = sshd.path;
  process.env["TMPDIR"] = sockets;
});

afterEach(() => {
  sshd.knows("the server's");
  sshd.offersKey(true);
});

afterAll(() => {
  Object.assign(process.env, before);
  if (before.TMPDIR === undefined) delete process.env["TMPDIR"];
  nodes.close();
  sshd.stop();
  rmSync(sockets, { recursive: true, force: true });
});

/** Each address has a tunnel of its own, so each test uses another one. */
async function nodeOnSsh(): Promise<{ readonly url: URL; readonly requests: () => number }> {
  let requests = 0;
  const target = await nodes.serve((request, response) => {
    requests++;
    // A plugin answers only requests whose host is loopback.
    if (request.headers.host !== target.host) response.writeHead(403).end();
    else {
      const now = new Date().toISOString();
      response.end(JSON.stringify({ now, activeKeyId: "a", publishedKeyId: "a", heldBack: null, keys: [] }));
    }
  });
  return { url: parseNodeAddress(sshd.node(target.port)), requests: () => requests };
}

const failure = async (url: URL): Promise<string> => (await readNodes([url]))[0]?.error ?? "";

describe("a node over ssh", () => {
  it("a node over ssh is read through one tunnel, which several requests share", async () => {
    const { url, requests } = await nodeOnSsh();
    const [one, two] = await Promise.all([readNode(url), readNode(url)]);
    await readNode(url);
    expect([one.activeKeyId, two.activeKeyId, requests()]).toEqual(["a", "a", 3]);
    expect(readdirSync(sockets)).toHaveLength(1);
  });

  it("a node over ssh has a clock whose error does not include the time of the connection", async () => {
    const { url } = await nodeOnSsh();
    const startedAt = performance.now();
    const { clockErrorMs } = await readNode(url);
    expect(clockErrorMs).toBeLessThan((performance.now() - startedAt) / 2);
  });

  it("an ssh node with another host key fails with ssh's reason and the command to try", async () => {
    for (const known of ["none", "another"] as const) {
      sshd.knows(known);
      const { url } = await nodeOnSsh();
      const error = await failure(url);
      expect(error).toContain(`${url.href}: ssh: Host key verification failed.`);
      expect(error).toMatch(/try 'ssh -p \d+ \S+@127\.0\.0\.1' in a terminal/u);
    }
  });

  it("an ssh node that accepts no key of the user fails with a hint at ssh-agent", async () => {
    sshd.offersKey(false);
    const { url } = await nodeOnSsh();
    expect(await failure(url)).toMatch(/ssh: .*Permission denied \(publickey\).*ssh-agent/u);
    // A second request within seconds does not try again.
    sshd.offersKey(true);
    expect(await failure(url)).toMatch(/Permission denied/u);
  });

  it("an ssh node without a listening plugin fails with ssh's reason and the address", async () => {
    const port = await freePort();
    const error = await failure(parseNodeAddress(sshd.node(port)));
    expect(error).toContain("open failed: connect failed: Connection refused");
    expect(error).toContain(`does a plugin serve HTTP at 127.0.0.1:${port} there?`);
  });

  it("an ssh node that refuses the connection fails with ssh's reason", async () => {
    const url = parseNodeAddress(`ssh://127.0.0.1:${await freePort()}`);
    expect(await failure(url)).toMatch(/ssh: .*Connection refused/u);
  });

  it("an ssh node cannot be read without ssh, and the error names what is missing", async () => {
    process.env["PATH"] = sockets;
    try {
      expect(await failure(parseNodeAddress("ssh://cp-2"))).toContain("ssh is not installed");
    } finally {
      process.env["PATH"] = sshd.path;
    }
  });
});

describe("the end of a command that uses ssh", () => {
  it.each(["exit", "SIGINT", "SIGKILL"] as const)(
    "leaves neither ssh nor its socket after %s",
    async (end) => {
      const { url } = await nodeOnSsh();
      const folder = mkdtempSync(join(sockets, "command-"));
      const pidFile = join(folder, "pid");
      const wait = end === "exit" ? "" : "setInterval(() => {}, 1000);";
      const program = `
      import { readNode } from "${CLIENT}";
      import { parseNodeAddress } from "${ADDRESS}";
      await readNode(parseNodeAddress("${url.href}"));
      console.log("read");
      ${wait}`;
      const shim = join(folder, "ssh");
      writeFileSync(shim, `#!/bin/sh\necho $$ >${pidFile}\nexec ${join(sshd.folder, "ssh")} "$@"\n`, {
        mode: 0o755,
      });
      const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
        env: { ...process.env, PATH: `${folder}:${sshd.path}`, TMPDIR: folder },
        stdio: ["ignore", "pipe", "inherit"],
      });
      await new Promise((resolve) => child.stdout.once("data", resolve));
      if (end !== "exit") child.kill(end);
      const pid = Number(readFileSync(pidFile, "utf8"));
      await waitFor(() => !existsSync(`/proc/${pid}`), { what: "the end of ssh" });
      await waitFor(() => readdirSync(folder).every((name) => !name.startsWith("kms-pkcs11-ssh-")), {
        what: "the removal of the socket",
      });
    },
  );
});
