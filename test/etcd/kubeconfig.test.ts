// Reading kubeconfigs as kubectl does: which file takes precedence, how paths are resolved, and what is refused.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { readKubeTarget, type KubeTarget } from "../../src/etcd/kubeconfig.js";

const folder = mkdtempSync(join(tmpdir(), "kubeconfig-"));

afterAll(() => {
  rmSync(folder, { recursive: true });
});

let files = 0;
const write = (content: object | string): string => {
  const sub = join(folder, String(++files));
  mkdirSync(sub);
  writeFileSync(join(sub, "config"), typeof content === "string" ? content : JSON.stringify(content));
  return join(sub, "config");
};

interface Parts {
  readonly current?: string;
  readonly cluster?: object;
  readonly user?: object;
}
/** Returns a kubeconfig with one context, whose cluster and user have its name. */
const config = (name: string, { current = name, cluster, user }: Parts = {}): object => ({
  "current-context": current,
  clusters: [{ name, cluster: { server: `https://${name}:6443`, ...cluster } }],
  users: [{ name, user: user ?? { token: name } }],
  contexts: [{ name, context: { cluster: name, user: name } }],
});
const read = (list: string[], context?: string): KubeTarget =>
  readKubeTarget({ context }, { KUBECONFIG: list.join(":"), HOME: folder });
const readOne = (parts: Parts): KubeTarget => readKubeTarget({ kubeconfig: write(config("a", parts)) }, {});

describe("with several files in $KUBECONFIG", () => {
  const [a, b] = [write(config("a")), write(config("b"))];

  it("of several kubeconfigs, the first current-context is used, and any context can be named", () => {
    expect(read([a, b])).toMatchObject({ cluster: { server: "https://a:6443" }, user: { token: "a" } });
    expect(read([b, a])).toMatchObject({ cluster: { server: "https://b:6443" }, user: { token: "b" } });
    expect(read([a, b], "b")).toMatchObject({ cluster: { server: "https://b:6443" }, user: { token: "b" } });
  });

  it("kubeconfigs without a current-context are skipped when one is looked for", () => {
    const none = write({ ...config("c"), "current-context": "" });
    expect(read([none, b, a]).cluster.server).toBe("https://b:6443");
  });

  it("$KUBECONFIG may name missing and empty files, empty names and a file twice", () => {
    const empty = [write(""), write("# nothing\n"), write("{}"), write("clusters: null\nusers: []\n")];
    expect(read(["", join(folder, "none"), ...empty, a, a, b]).cluster.server).toBe("https://a:6443");
  });

  it("of several kubeconfigs, the first definition of a name is used as a whole", () => {
    const other = write(config("a", { cluster: { server: "https://other", "tls-server-name": "x" } }));
    const { cluster, user } = read([a, other]);
    expect([cluster, user]).toEqual([{ server: "https://a:6443" }, { token: "a" }]);
  });

  it("a kubeconfig's context may combine a cluster and a user from different files", () => {
    const joined = write({
      "current-context": "j",
      contexts: [{ name: "j", context: { cluster: "a", user: "b" } }],
    });
    expect(read([joined, a, b])).toEqual({ cluster: { server: "https://a:6443" }, user: { token: "b" } });
  });

  it("a path in a kubeconfig is relative to the file that contains it", () => {
    const exec = (command: string): Parts => ({
      cluster: { "certificate-authority": "ca.pem" },
      user: {
        "client-certificate": "../c.pem",
        "client-key": "/k.pem",
        tokenFile: "t",
        exec: { apiVersion: "client.authentication.k8s.io/v1beta1", command },
      },
    });
    const file = write(config("p", exec("./bin/login")));
    const beside = join(folder, String(files));
    expect(read([a, file], "p")).toMatchObject({
      cluster: { "certificate-authority": join(beside, "ca.pem") },
      user: {
        "client-certificate": join(folder, "c.pem"),
        "client-key": "/k.pem",
        tokenFile: join(beside, "t"),
        exec: { command: join(beside, "bin/login") },
      },
    });
    expect(readOne(exec("login")).user.exec?.command).toBe("login");
  });
});

describe("a kubeconfig", () => {
  it("a kubeconfig is read as YAML 1.1, in which yes is a boolean and 12345 is not a string", () => {
    const yaml = (verify: string, token: string): string =>
      write(
        `current-context: a\nclusters: [{name: a, cluster: {server: https://a, insecure-skip-tls-verify: ${verify}}}]\nusers: [{name: a, user: {token: ${token}}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n`,
      );
    expect(readKubeTarget({ kubeconfig: yaml("yes", "t") }, {}).cluster["insecure-skip-tls-verify"]).toBe(
      true,
    );
    for (const file of [yaml("1", "t"), yaml("yes", "12345")]) {
      expect(() => readKubeTarget({ kubeconfig: file }, {})).toThrow("wrong or missing: ");
    }
  });

  it("a kubeconfig is found in the home folder; without one, the error names the path", () => {
    expect(() => readKubeTarget({}, { HOME: folder })).toThrow(join(folder, ".kube", "config"));
    mkdirSync(join(folder, ".kube"));
    writeFileSync(join(folder, ".kube", "config"), JSON.stringify(config("home")));
    expect(readKubeTarget({}, { HOME: folder }).cluster.server).toBe("https://home:6443");
  });

  it("a kubeconfig may have a context without a user", () => {
    const anonymous = { ...config("a"), contexts: [{ name: "a", context: { cluster: "a" } }] };
    expect(readKubeTarget({ kubeconfig: write(anonymous) }, {}).user).toEqual({});
  });

  const execOf = (more: object): Parts => ({
    user: { exec: { apiVersion: "client.authentication.k8s.io/v1", command: "x", ...more } },
  });
  const pem = "client-certificate-data";
  it.each<[string, Parts]>([
    ["no context", { current: "none" }],
    ["no current-context", { current: "" }],
    [
      "certificate-authority-data and certificate-authority",
      {
        cluster: { "certificate-authority": "a", "certificate-authority-data": "YQ==" },
      },
    ],
    [
      "insecure-skip-tls-verify",
      {
        cluster: { "certificate-authority-data": "YQ==", "insecure-skip-tls-verify": true },
      },
    ],
    ["certificate-authority-data", { cluster: { "certificate-authority-data": "no base64" } }],
    ["proxy-url", { cluster: { "proxy-url": "ftp://proxy" } }],
    ["token and username", { user: { token: "a", username: "b" } }],
    ["client-certificate without client-key", { user: { [pem]: "YQ==" } }],
    [
      "client-key-data and client-key",
      { user: { [pem]: "YQ==", "client-key": "k", "client-key-data": "YQ==" } },
    ],
    ["interactiveMode", execOf({})],
    ["exec.interactiveMode", execOf({ interactiveMode: "Sometimes" })],
    ["exec.apiVersion", execOf({ apiVersion: "client.authentication.k8s.io/v1alpha1" })],
    ["exec.command", { user: { exec: { apiVersion: "client.authentication.k8s.io/v1beta1" } } }],
    [
      "exec and auth-provider",
      { user: { ...execOf({ interactiveMode: "Never" }).user, "auth-provider": { name: "oidc" } } },
    ],
    ['auth-provider "gcp"', { user: { "auth-provider": { name: "gcp" } } }],
    ["without as", { user: { "as-groups": ["system:masters"] } }],
  ])("a kubeconfig is refused as by kubectl: %s", (text, parts) => {
    expect(() => readOne(parts)).toThrow(text);
  });

  it.each<[string, () => string]>([
    ["ENOENT", () => join(folder, "none")],
    ["EISDIR", () => folder],
    ["is not YAML", () => write("a: [")],
    ["is longer than 16777216 bytes", () => "/dev/zero"],
    ["is not a kubeconfig", () => write("- a")],
    ['has the cluster "a" twice', () => write({ clusters: [{ name: "a" }, { name: "a" }] })],
  ])("a kubeconfig is refused if it is given with --kubeconfig and cannot be used: %s", (text, file) => {
    expect(() => readKubeTarget({ kubeconfig: file() }, {})).toThrow(text);
  });
});
