// How an exec plugin of a kubeconfig is run, and how long its credential is used.

import { execFileSync } from "node:child_process";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { useStandInApi, type KubeconfigParts } from "./stand-in-api.js";

const kube = useStandInApi();

describe("an exec plugin", () => {
  const LOG = (): string => join(kube.standIn.folder, "log");
  const runs = (): string[] => readFileSync(LOG(), "utf8").trim().split("\n");

  /** Writes a plugin beside the kubeconfig that logs how it is run; its n-th run returns the token `n`. */
  function plugin(status = "", more: object = {}, then = ""): KubeconfigParts {
    const script = `#!/bin/sh
if [ -t 0 ]; then in=terminal; else in=$(timeout 5 cat || echo open); fi
echo "$KUBERNETES_EXEC_INFO|$in|$EXTRA|$*" >> "$(dirname "$0")/log"
n=$(wc -l < "$(dirname "$0")/log")
${then}
printf '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{${status || '"token":"%s"'}}}' $n
`;
    const file = join(kube.standIn.folder, "plugin");
    writeFileSync(file, script);
    chmodSync(file, 0o700);
    const exec = {
      apiVersion: "client.authentication.k8s.io/v1",
      command: "./plugin",
      args: ["get", "token"],
      env: [{ name: "EXTRA", value: "e" }],
      interactiveMode: "IfAvailable",
      ...more,
    };
    return { user: { exec } };
  }

  it("an exec plugin runs once beside the kubeconfig, with kubectl's environment and no input", async () => {
    expect(await kube.ask(plugin())).toHaveProperty("authorization", "Bearer 1");
    await Promise.all([kube.get(), kube.get(), kube.get()]);
    const [info = "", input, extra, args] = runs()[0]?.split("|") ?? [];
    expect(JSON.parse(info)).toEqual({
      apiVersion: "client.authentication.k8s.io/v1",
      kind: "ExecCredential",
      spec: { interactive: false },
    });
    expect([input, extra, args]).toEqual(["", "e", "get token"]);
    expect(runs()).toHaveLength(1);
  });

  it("an exec plugin receives the cluster if provideClusterInfo is set", async () => {
    const config = { audience: "x" };
    const extensions = [{ name: "client.authentication.k8s.io/exec", extension: config }];
    await kube.ask({
      ...plugin("", { provideClusterInfo: true }),
      cluster: { extensions, "tls-server-name": "127.0.0.1" },
    });
    expect(JSON.parse(runs()[0]?.split("|")[0] ?? "")).toMatchObject({
      spec: {
        cluster: {
          server: kube.standIn.server,
          "tls-server-name": "127.0.0.1",
          "certificate-authority-data": readFileSync(join(kube.standIn.folder, "cert.pem"), "base64"),
          config,
        },
      },
    });
  });

  it("an exec plugin runs once more after a 401, also for several requests; a second is final", async () => {
    kube.answer = ({ headers }) => ({ status: headers["authorization"] === "Bearer 1" ? 401 : 200 });
    kube.api = await kube.standIn.connect(plugin());
    expect((await Promise.all([kube.get(), kube.get(), kube.get()])).map(({ status }) => status)).toEqual([
      200, 200, 200,
    ]);
    expect(runs()).toHaveLength(2);
    kube.answer = () => ({ status: 401 });
    await expect(kube.get()).rejects.toMatchObject({ code: "CONFIG_INVALID" });
    expect(runs()).toHaveLength(3);
  });

  it("an exec plugin runs again when its credential has expired", async () => {
    await kube.ask(plugin('"token":"%s","expirationTimestamp":"2020-01-01T00:00:00Z"'));
    await kube.get();
    expect(kube.standIn.asked.map(({ headers }) => headers["authorization"])).toEqual([
      "Bearer 1",
      "Bearer 2",
    ]);
    expect(
      await kube.ask(plugin('"token":"%s","expirationTimestamp":"2999-01-01T00:00:00Z"')),
    ).toHaveProperty("authorization", "Bearer 3");
    await kube.get();
    expect(runs()).toHaveLength(3);
  });

  it("an exec plugin may return a certificate", async () => {
    const [cert, key] = ["cert.pem", "key.pem"].map((name) =>
      JSON.stringify(readFileSync(join(kube.standIn.folder, name), "utf8")).replaceAll("\\n", "\\\\n"),
    );
    expect(
      await kube.ask(plugin(`"clientCertificateData":${cert ?? ""},"clientKeyData":${key ?? ""}`)),
    ).not.toHaveProperty("authorization");
    expect(runs()).toHaveLength(1);
  });

  it("an exec plugin does not run for a user that has a token or a certificate", async () => {
    const { user } = plugin("", {}, "exit 1") as { user: object };
    expect(await kube.ask({ user: { ...user, token: "own" } })).toHaveProperty("authorization", "Bearer own");
    await kube.ask({ user: { ...user, "client-certificate": "cert.pem", "client-key": "key.pem" } });
  });

  it.each<[string, string, object, string]>([
    ["fails with exit code 7", "", {}, "exit 7"],
    [
      "cannot be run (ENOENT); get it at example.org",
      "",
      { command: "./none", installHint: "get it at example.org" },
      "",
    ],
    ["standard input is not a terminal", "", { interactiveMode: "Always" }, ""],
    ["neither a token nor a certificate", '"token":""', {}, ""],
    ["only one of certificate and key", '"clientKeyData":"x"', {}, ""],
    ["a different apiVersion", "", { apiVersion: "client.authentication.k8s.io/v1beta1" }, ""],
    ["did not return an ExecCredential (the output is not JSON)", "", {}, "echo secret; exit 0"],
  ])("a failure of an exec plugin is reported without its output: %s", async (text, status, more, then) => {
    const failed = kube.ask(plugin(status, more, then));
    await expect(failed).rejects.toMatchObject({
      code: "CONFIG_INVALID",
      message: expect.stringContaining(text.replace("fails", "failed")) as string,
    });
    await expect(failed).rejects.not.toMatchObject({ message: expect.stringContaining("secret") as string });
  });

  it("an exec plugin can prompt on the terminal, and its standard error is passed on", async () => {
    await kube.standIn.listen();
    kube.standIn.writeKubeconfig(plugin("", { interactiveMode: "Always" }, "echo Password? >&2; exit 1"));
    const program = `import { KubeApi } from ${JSON.stringify(new URL("../../dist/etcd/kube-api.js", import.meta.url).href)};
      await KubeApi.connect({ kubeconfig: ${JSON.stringify(kube.standIn.kubeconfig)} }).request({ method: "GET", path: "/api" }).catch(() => 0);`;
    const file = join(kube.standIn.folder, "ask.mjs");
    writeFileSync(file, program);
    const output = execFileSync("script", ["-qec", `'${process.execPath}' '${file}'`, "/dev/null"], {
      encoding: "utf8",
    });
    expect(output).toContain("Password?");
    expect(runs()[0]).toContain('"interactive":true}}|terminal|');
  });
});
