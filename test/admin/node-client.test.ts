// Reading a node's /keys: addresses, text that must be escaped, and servers that are not a plugin.

import type { RequestListener } from "node:http";

import { afterEach, describe, expect, it } from "vitest";

import { readNode } from "../../src/admin/node-client.js";
import { parseNodeAddress } from "../../src/config/node-address.js";
import { readNodes } from "../../src/admin/node-comparison.js";
import { ACTIVE, FakeNodes } from "../support/fake-nodes.js";
import { freePort } from "../support/free-port.js";

const nodes = new FakeNodes();
const node: FakeNodes["node"] = (...args) => nodes.node(...args);
const serve: FakeNodes["serve"] = (listener) => nodes.serve(listener);

afterEach(() => {
  nodes.close();
});

describe("what a node answers", () => {
  it("the node client shows a node's text on one line, with control characters escaped", async () => {
    const hostile = "\u001b]0;x\u0007\nall nodes agree";
    const url = await node({
      activeKeyId: hostile,
      publishedKeyId: hostile,
      heldBack: hostile,
      keys: [{ ...ACTIVE, failure: hostile }],
    });
    const harmless = "\\u001b]0;x\\u0007\\u000aall nodes agree";
    const [report] = await readNodes([url]);
    expect(report).toMatchObject({ activeKeyId: harmless, problems: [harmless, `a: ${harmless}`] });
  });
});

describe("an address without a plugin", () => {
  it.each<[string, RequestListener, RegExp]>([
    ["HTML", (_q, response) => response.end("<html>"), /not from a compatible plugin/],
    ["other JSON", (_q, response) => response.end('{"keys":[]}'), /not from a compatible plugin/],
    ["an HTTP error", (_q, response) => response.writeHead(503).end(), /HTTP status 503/],
    [
      "a redirect",
      (_q, response) => response.writeHead(302, { location: "http://127.0.0.1:1/" }).end(),
      /redirect/,
    ],
    ["more than 1 MiB", (_q, response) => response.end(Buffer.alloc(2 << 20, 32)), /exceeds 1048576 bytes/],
    ["nothing", () => undefined, /no answer within 3000 ms/],
  ])("the node client reports a node that answers with %s", async (_what, listener, reason) => {
    const url = await serve(listener);
    await expect(readNode(url)).rejects.toMatchObject({
      code: "PEER_UNREACHABLE",
      message: expect.stringMatching(reason) as string,
    });
  });

  it("the node client reports a node that refuses the connection, with the reason", async () => {
    const [report] = await readNodes([parseNodeAddress(`http://127.0.0.1:${await freePort()}`)]);
    expect(report).toMatchObject({
      error: expect.stringContaining("ECONNREFUSED") as string,
      activeKeyId: null,
    });
  });
});
