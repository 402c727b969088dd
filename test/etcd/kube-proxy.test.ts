// The proxy of the environment for a server, by the rules of Go programs.

import { expect, it } from "vitest";
import { proxyFromEnvironment } from "../../src/etcd/kube-proxy.js";

const through = (server: string, env: NodeJS.ProcessEnv): string | undefined =>
  proxyFromEnvironment(new URL(server), env);

it.each<[noProxy: string, server: string, isDirect: boolean]>([
  ["", "https://k8s.example.org", false],
  ["*", "https://k8s.example.org", true],
  ["example.org", "https://k8s.example.org", true],
  ["example.org", "https://example.org", true],
  ["example.org", "https://notexample.org", false],
  [".example.org", "https://k8s.example.org", true],
  [".example.org", "https://example.org", false],
  ["*.example.org", "https://k8s.example.org", true],
  ["EXAMPLE.org , other", "https://k8s.example.org", true],
  ["example.org:6443", "https://k8s.example.org:6443", true],
  ["example.org:6443", "https://k8s.example.org", false],
  ["example.org:443", "https://k8s.example.org", true],
  [":443", "https://k8s.example.org", false],
  ["10.0.0.0/8", "https://10.9.8.7:6443", true],
  ["10.0.0.0/8", "https://11.9.8.7:6443", false],
  ["10.0.0.0/99", "https://10.9.8.7:6443", false],
  ["10.9.8.7", "https://10.9.8.7", true],
  ["10.9.8.7:6443", "https://10.9.8.7:6443", true],
  ["10.9.8.7:6443", "https://10.9.8.7", false],
  ["fd00::/8", "https://[fd00::1]:6443", true],
  ["fd00::1", "https://[fd00:0::1]:6443", true],
  ["[fd00::1]:6443", "https://[fd00::1]:6443", true],
  ["", "https://localhost:6443", true],
  ["", "https://127.9.9.9:6443", true],
  ["", "https://[::1]:6443", true],
])("NO_PROXY=%s decides whether %s is reached directly: %s", (noProxy, server, isDirect) => {
  expect(through(server, { HTTPS_PROXY: "http://p:1", NO_PROXY: noProxy }) === undefined).toBe(isDirect);
});

it("the proxy depends on the server's scheme; upper-case names take precedence", () => {
  expect(through("http://a", { HTTPS_PROXY: "http://p:1" })).toBeUndefined();
  expect(through("http://a", { http_proxy: "http://p:1" })).toBe("http://p:1");
  expect(through("https://a", { HTTPS_PROXY: "p:1", https_proxy: "q:1" })).toBe("http://p:1");
  expect(through("https://a", { HTTPS_PROXY: "", https_proxy: "socks5://q:1" })).toBe("socks5://q:1");
  expect(through("https://a", { ALL_PROXY: "p:1" })).toBeUndefined();
});
