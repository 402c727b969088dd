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

  it("--nodes asks for the cluster of the command, unless an address names another", () => {
    const nodes = "http://a:1,http://a:1/?cluster=beta";
    expect(namedNodes({ nodes, cluster: "alpha" })?.map(String)).toEqual([
      "http://a:1/keys?cluster=alpha",
      "http://a:1/keys?cluster=beta",
    ]);
  });

  it("--nodes accepts ssh:// addresses, whose HTTP address is the usual or the configured one", () => {
    const nodes = "ssh://cp-2,ssh://root@cp-3:2222,ssh://[::1]/[::1]:9090, ssh://cp-4/127.0.0.1:1/keys";
    expect(namedNodes({ nodes })?.map(String)).toEqual([
      "ssh://cp-2/127.0.0.1:8090/keys",
      "ssh://root@cp-3:2222/127.0.0.1:8090/keys",
      "ssh://[::1]/[::1]:9090/keys",
      "ssh://cp-4/127.0.0.1:1/keys",
    ]);
    const settings = { nodes: [], tokens: [], http: { host: "::1", port: 18_090 } } as unknown as Settings;
    expect(nodesOf({ nodes: "ssh://cp-2" }, settings).map(String)).toEqual(["ssh://cp-2/[::1]:18090/keys"]);
  });

  it.each([
    "ssh://",
    "ssh://-oProxyCommand=touch${IFS}x",
    "ssh://-lroot@cp-2",
    "ssh://me:secret@cp-2",
    "ssh://cp-2;reboot",
    "ssh://$(reboot)",
    "ssh://`reboot`@cp-2",
    "ssh://cp-2%0areboot",
    "ssh://a b",
    "ssh://cp-2:0",
    "ssh://cp-2:65536",
    "ssh://cp-2:22:22",
    "ssh://[cp-2]",
    "ssh://cp-2/10.0.0.1:8090",
    "ssh://cp-2/127.0.0.1:0",
    "ssh://cp-2/off",
    "ssh://cp-2/keys/keys",
    "ssh://cp-2,ssh://cp-2/127.0.0.1:8090",
  ])("--nodes refuses %j, with which ssh would do something else", (nodes) => {
    expect(() => namedNodes({ nodes })).toThrow(/^--nodes: (?!.*secret)/);
  });

  it("--cluster names the cluster that the plugins are asked about", () => {
    const nodes = "http://node-2:8090,ssh://cp-3";
    expect(namedNodes({ nodes, cluster: "tenant-a" })?.map(String)).toEqual([
      "http://node-2:8090/keys?cluster=tenant-a",
      "ssh://cp-3/127.0.0.1:8090/keys?cluster=tenant-a",
    ]);
  });

  it("a name that no cluster can have is reported as the value of --cluster, not of --nodes", () => {
    const options = { nodes: "ssh://cp-3", cluster: "a;reboot" };
    expect(() => namedNodes(options)).toThrow(/^--cluster: cannot name a cluster/);
  });

  it("--nodes replaces the nodes of the configuration, which a command uses without it", () => {
    const settings = { nodes: CONFIGURED, tokens: [] } as unknown as Settings;
    expect(nodesOf({}, settings)).toBe(CONFIGURED);
    expect(nodesOf({ nodes: "http://node-2:8090" }, settings).map(String)).toEqual([
      "http://node-2:8090/keys",
    ]);
  });
});
