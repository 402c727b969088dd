// Requests to the API as kubectl makes them: the user, the credentials and how long they are cached, and the
// proxy.

import { writeFileSync } from "node:fs";
import { createServer, request, type Server } from "node:http";
import { connect, type AddressInfo } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { KubeCredentials } from "../../src/etcd/kube-credentials.js";
import { useStandInApi } from "./stand-in-api.js";

const kube = useStandInApi();

describe("a user of a kubeconfig", () => {
  it("a user of a kubeconfig can impersonate another user with groups, a UID and extras", async () => {
    const headers = await kube.ask({
      user: {
        token: "t",
        as: "jane",
        "as-uid": "7",
        "as-groups": ["dev", "ops"],
        "as-user-extra": { "example.org/team": ["x", "y"], "50%": ["z"] },
      },
    });
    expect(headers).toMatchObject({
      authorization: "Bearer t",
      "impersonate-user": "jane",
      "impersonate-uid": "7",
      // Node joins the values of a header that comes several times.
      "impersonate-group": "dev, ops",
      "impersonate-extra-example.org%2fteam": "x, y",
      "impersonate-extra-50%25": "z",
    });
  });

  it("a user of a kubeconfig authenticates with name and password", async () => {
    const basic = `Basic ${Buffer.from("u:p").toString("base64")}`;
    expect(await kube.ask({ user: { username: "u", password: "p" } })).toHaveProperty("authorization", basic);
  });

  it("a token file of a kubeconfig is read again after a minute and after a 401", async () => {
    const file = join(kube.standIn.folder, "token");
    writeFileSync(file, "first\n");
    expect(await kube.ask({ user: { tokenFile: "token" } })).toHaveProperty("authorization", "Bearer first");
    writeFileSync(file, "second");
    kube.answer = ({ headers }) => ({ status: headers["authorization"] === "Bearer second" ? 200 : 401 });
    expect((await kube.get()).status).toBe(200);

    let now = 0;
    const credentials = new KubeCredentials(
      { cluster: { server: "s" }, user: { tokenFile: file } },
      () => now,
    );
    const header = async (): Promise<string | undefined> => (await credentials.get()).authorization;
    expect(await header()).toBe("Bearer second");
    writeFileSync(file, "third");
    expect(await header()).toBe("Bearer second");
    now = 60_000;
    expect(await header()).toBe("Bearer third");
    writeFileSync(file, "");
    now = 120_000;
    await expect(header()).rejects.toMatchObject({ code: "CONFIG_INVALID" });
  });

  it("a user of a kubeconfig is refused after a second 401", async () => {
    kube.answer = () => ({ status: 401, body: { message: "Unauthorized" } });
    await expect(kube.ask({ user: { token: "t" } })).rejects.toMatchObject({
      code: "CONFIG_INVALID",
      message: expect.stringContaining("refuses the kubeconfig's credentials: 401 Unauthorized") as string,
    });
    expect(kube.standIn.asked).toHaveLength(2);
  });
});

describe("a server over plain HTTP", () => {
  it("a server over plain HTTP, such as 'kubectl proxy', gets requests without a credential", async () => {
    await kube.standIn.close();
    kube.start(true);
    const headers = await kube.ask({ user: { token: "t", as: "jane" } });
    expect(headers).toHaveProperty("impersonate-user", "jane");
    expect(headers).not.toHaveProperty("authorization");
  });
});

describe("a proxy", () => {
  let proxy: Server;
  let tunnels: string[];

  beforeEach(async () => {
    tunnels = [];
    proxy = createServer((incoming, response) => {
      incoming.pipe(request(incoming.url ?? "", (answer) => answer.pipe(response)));
    });
    proxy.on("connect", (incoming, socket) => {
      tunnels.push(incoming.headers["proxy-authorization"] ?? incoming.url ?? "");
      const url = new URL(kube.standIn.server);
      const upstream = connect(Number(url.port), url.hostname, () => {
        socket.write("HTTP/1.1 200 OK\r\n\r\n");
        upstream.pipe(socket).pipe(upstream);
      });
      socket.on("error", () => upstream.destroy());
      upstream.on("error", () => socket.destroy());
    });
    await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  });

  afterEach(() => {
    proxy.closeAllConnections();
    proxy.close();
  });

  const url = (login = ""): string => `http://${login}127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  // The name is not resolved here; the proxy forwards it to the stand-in.
  const far = { server: "https://api.invalid:6443", "tls-server-name": "127.0.0.1" };

  it("a proxy of the kubeconfig's cluster takes precedence over the environment", async () => {
    await kube.ask(
      { cluster: { ...far, "proxy-url": url("me:pass@") } },
      { HTTPS_PROXY: "http://127.0.0.1:1", NO_PROXY: "*" },
    );
    expect(tunnels).toEqual([`Basic ${Buffer.from("me:pass").toString("base64")}`]);
  });

  it.each(["HTTPS_PROXY", "https_proxy"])("a proxy is taken from %s", async (name) => {
    await kube.ask({ cluster: far }, { [name]: url(), HTTP_PROXY: "http://127.0.0.1:1" });
    expect(tunnels).toEqual(["api.invalid:6443"]);
  });

  it("a proxy is not used for loopback", async () => {
    await kube.ask({}, { HTTPS_PROXY: "http://127.0.0.1:1" });
    expect(kube.standIn.asked).toHaveLength(1);
  });

  it("a proxy is named in the error without its password if it cannot be reached", async () => {
    const failed = kube.ask({ cluster: far }, { HTTPS_PROXY: "http://me:pass@127.0.0.1:1" });
    await expect(failed).rejects.toMatchObject({
      code: "PEER_UNREACHABLE",
      message:
        "kube-apiserver at https://api.invalid:6443 does not answer through the proxy 127.0.0.1:1: ECONNREFUSED",
    });
  });
});

it("an address as tls-server-name must be in the server's certificate", async () => {
  await expect(kube.ask({ cluster: { "tls-server-name": "127.0.0.9" } })).rejects.toMatchObject({
    code: "PEER_UNREACHABLE",
  });
});
