// The plugins that a command asks: those of --nodes, else those of the configuration.

import { describe, expect, it } from "vitest";

import { namedNodes, nodesOf } from "../../src/cli/nodes-option.js";
import type { Settings } from "../../src/config/settings.js";

const CONFIGURED = [new URL("http://127.0.0.1:1/keys")];

describe("--nodes", () => {
  it("--nodes accepts URLs, with or without the path /keys", () => {
    const nodes = "http://127.0.0.1:8090, http://node-2:8090/keys,https://[::1]:1/behind/a/proxy";
    expect(namedNodes({ nodes })?.map(String)).toEqual([
      "http://127.0.0.1:8090/keys",
      "http://node-2:8090/keys",
      "https://[::1]:1/behind/a/proxy",
    ]);
  });

  it.each(["", "127.0.0.1:8090", "ftp://a/", "http://me:secret@a/", "http://a,http://a/keys"])(
    "--nodes refuses %j",
    (nodes) => {
      expect(() => namedNodes({ nodes })).toThrow(/^--nodes: (?!.*secret)/);
    },
  );

  it("--nodes replaces the nodes of the configuration, which a command uses without it", () => {
    const settings = { nodes: CONFIGURED } as unknown as Settings;
    expect(nodesOf({}, settings)).toBe(CONFIGURED);
    expect(nodesOf({ nodes: "http://node-2:8090" }, settings).map(String)).toEqual([
      "http://node-2:8090/keys",
    ]);
  });
});
