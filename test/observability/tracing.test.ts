// Tracing as a collector receives it: spans of real requests within the caller's trace, and no spans if tracing is off.

import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { readFileSync } from "node:fs";

import { Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";

import { startTracing } from "../../src/observability/tracing.js";
import { kmsServiceDefinition } from "../../src/server/kms-messages.js";
import { usePlugin } from "../support/plugin-fixture.js";
import { childrenOf } from "../support/plugin-process.js";
import { waitFor } from "../support/wait.js";

const TRACE = "0af7651916cd43dd8448eb211c80319c";
const PARENT = "b7ad6b7169203331";
const SECRET = "Bearer-of-the-collector";

interface Span {
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly kind: number;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly status: { readonly code: number; readonly message?: string };
  readonly attributes: readonly { readonly key: string; readonly value: { readonly stringValue: string } }[];
}
interface Sent {
  readonly resourceSpans: readonly {
    readonly resource: Pick<Span, "attributes">;
    readonly scopeSpans: readonly { readonly spans: readonly Span[] }[];
  }[];
}

const received: Sent[] = [];
const authorizations = new Set<string | undefined>();
let collector: Server;
let client: Client;

/** Starts the collector. Returns the variables that have the plugin use it. */
async function startCollector(): Promise<Record<string, string>> {
  collector = createServer((request, response) => {
    authorizations.add(request.headers.authorization);
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      if (request.url === "/v1/traces") received.push(JSON.parse(Buffer.concat(chunks).toString()) as Sent);
      response.writeHead(200, { "content-type": "application/json" }).end("{}");
    });
  });
  await new Promise<void>((resolve) => collector.listen(0, "127.0.0.1", resolve));
  const { port } = collector.address() as AddressInfo;
  return {
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
    OTEL_EXPORTER_OTLP_HEADERS: `authorization=${SECRET}`,
    OTEL_BSP_SCHEDULE_DELAY: "50",
    OTEL_RESOURCE_ATTRIBUTES: "k8s.node.name=node-1",
  };
}

const kms = usePlugin(
  // The cache holds one seed: an Encrypt evicts that of the one before.
  { hsm: {}, cache: { entries: 1 } },
  {
    async prepare({ plugin }) {
      plugin.env = await startCollector();
    },
  },
);

beforeAll(() => {
  client = new Client(`unix:${kms.plugin.socket}`, credentials.createInsecure(), {
    "grpc.default_authority": "localhost",
  });
});

afterAll(async () => {
  client.close();
  await kms.own.stop();
  await new Promise((resolve) => collector.close(resolve));
});

const call = async (method: string, request: object, flags = "01"): Promise<Record<string, unknown>> => {
  const rpc = kmsServiceDefinition()[method];
  if (rpc === undefined) throw new TypeError(method);
  const metadata = new Metadata();
  metadata.set("traceparent", `00-${TRACE}-${PARENT}-${flags}`);
  return new Promise((resolve, reject) => {
    const done = (error: ServiceError | null, answer?: unknown): void => {
      if (error === null) resolve(answer as Record<string, unknown>);
      else reject(error);
    };
    client.makeUnaryRequest(
      rpc.path,
      rpc.requestSerialize,
      rpc.responseDeserialize,
      request,
      metadata,
      {},
      done,
    );
  });
};
const spans = (): Span[] =>
  received.flatMap(({ resourceSpans }) =>
    resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap((one) => one.spans)),
  );
const attributesOf = ({ attributes }: Pick<Span, "attributes">): Record<string, string> =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, value.stringValue]));
const spanOf = (uid: string): Promise<Span> =>
  waitFor(() => spans().find((span) => attributesOf(span)["kms.uid"] === uid), {
    what: uid,
    timeoutMs: 20_000,
  });

it("the plugin sends a span for every request, in the caller's trace", async () => {
  const plaintext = Buffer.alloc(32, 0x5a);
  const sealed = await call("Encrypt", { plaintext, uid: "traced-1" });
  await expect(call("Decrypt", { ...sealed, key_id: "00.c0", uid: "traced-2" })).rejects.toThrow(/NOT_FOUND/);
  const [encrypted, refused] = [await spanOf("traced-1"), await spanOf("traced-2")];
  const place = { traceId: TRACE, parentSpanId: PARENT, kind: 2 };
  expect(encrypted).toMatchObject({ ...place, name: "v2.KeyManagementService/Encrypt", status: { code: 0 } });
  expect(attributesOf(encrypted)).toMatchObject({
    "rpc.method": "Encrypt",
    "kms.status": "OK",
    "kms.key_id": sealed["key_id"],
  });
  expect(BigInt(encrypted.endTimeUnixNano)).toBeGreaterThan(BigInt(encrypted.startTimeUnixNano));
  expect(refused).toMatchObject({ ...place, name: "v2.KeyManagementService/Decrypt", status: { code: 2 } });
  expect(attributesOf(refused)["kms.status"]).toBe("NOT_FOUND");
  const resource = attributesOf(received[0]?.resourceSpans[0]?.resource ?? { attributes: [] });
  expect(resource).toMatchObject({ "service.name": "kms-pkcs11", "k8s.node.name": "node-1" });
  expect(JSON.stringify(received)).not.toContain(plaintext.toString("hex"));
});

it("the plugin sends a span for each call to the HSM, below the request's", async () => {
  const sealed = await call("Encrypt", { plaintext: Buffer.alloc(32, 1), uid: "hsm-1" });
  await call("Encrypt", { plaintext: Buffer.alloc(32, 2), uid: "evicts" });
  await call("Decrypt", { ...sealed, uid: "hsm-2" });
  await call("Decrypt", { ...sealed, uid: "cached" });
  const below = async (uid: string): Promise<Span[]> => {
    const { spanId, traceId } = await spanOf(uid);
    expect(traceId).toBe(TRACE);
    return spans().filter(({ parentSpanId }) => parentSpanId === spanId);
  };
  // A request's span and its children's spans may arrive in different batches; only at the end is an empty list
  // certain.
  const [encrypted] = await waitFor(async () => {
    const found = await below("hsm-1");
    return found.length > 0 && found;
  });
  expect(encrypted).toMatchObject({ name: "HSM encrypt", kind: 3, status: { code: 0 } });
  expect(attributesOf(encrypted ?? { attributes: [] })["hsm.result"]).toBe("ok");
  const around = await spanOf("hsm-1");
  expect(BigInt(encrypted?.startTimeUnixNano ?? 0)).toBeGreaterThanOrEqual(BigInt(around.startTimeUnixNano));
  expect(BigInt(encrypted?.endTimeUnixNano ?? 0)).toBeLessThanOrEqual(BigInt(around.endTimeUnixNano));
  await spanOf("cached");
  expect((await below("hsm-2")).map(({ name }) => name)).toEqual(["HSM decrypt"]);
  expect(await below("cached")).toEqual([]);
});

it("the plugin follows a caller that does not sample, and begins a trace if there is none", async () => {
  await call("Encrypt", { plaintext: Buffer.alloc(32), uid: "unsampled" }, "00");
  await call("Encrypt", { plaintext: Buffer.alloc(32), uid: "sampled" });
  await spanOf("sampled");
  expect(spans().filter((span) => attributesOf(span)["kms.uid"] === "unsampled")).toEqual([]);
  const own = spans().filter(({ traceId }) => traceId !== TRACE);
  expect(own.length).toBeGreaterThan(0);
  expect(own.every(({ parentSpanId }) => parentSpanId === undefined || parentSpanId === "")).toBe(true);
});

it("neither a token host nor the log gets the collector's password", () => {
  expect([...authorizations]).toEqual([SECRET]);
  const hosts = childrenOf(kms.plugin.pid ?? 0);
  expect(hosts.length).toBeGreaterThan(0);
  for (const pid of hosts) expect(readFileSync(`/proc/${pid}/environ`, "latin1")).not.toContain("OTEL_");
  expect(kms.plugin.log).not.toContain(SECRET);
});

it("neither requests nor the stop wait for a trace collector that has gone away", async () => {
  collector.closeAllConnections();
  await new Promise((resolve) => collector.close(resolve));
  const failures = (): number => kms.plugin.log.split('"msg":"traces cannot be exported"').length - 1;
  for (let sent = 0; failures() === 0; sent++) {
    await call("Encrypt", { plaintext: Buffer.alloc(32), uid: `alone-${sent}` });
  }
  expect(kms.plugin.log).toMatch(/"reason":"[^"]*ECONNREFUSED/);
  expect(await kms.plugin.stop()).toBe(0);
  expect(failures()).toBe(1);
});

describe("tracing that is off or cannot be started", () => {
  const warnings: unknown[] = [];
  const log = {
    debug: () => undefined,
    info: () => undefined,
    warn: (fields: object) => warnings.push(fields),
    error: () => undefined,
  };
  const start = (env: NodeJS.ProcessEnv) => startTracing(env, "1", log);
  const OTEL_EXPORTER_OTLP_ENDPOINT = "http://127.0.0.1:1";

  beforeEach(() => {
    warnings.length = 0;
  });

  it.each([
    {},
    { OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SDK_DISABLED: "true" },
    { OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_EXPORTER: "none" },
    { OTEL_TRACES_EXPORTER: "" },
    { OTEL_EXPORTER_OTLP_ENDPOINT: "", OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: " ", OTEL_TRACES_EXPORTER: " " },
  ])("tracing is off, without a word, for %o", async (env) => {
    expect(await start(env)).toBeUndefined();
    expect(warnings).toEqual([]);
  });

  it.each([
    [{ OTEL_TRACES_EXPORTER: "zipkin" }, /only otlp and none/],
    [{ OTEL_TRACES_EXPORTER: "otlp,console" }, /only otlp and none/],
    [{ OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" }, /http\/json/],
    [{ OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: "http/protobuf" }, /http\/json/],
  ])("tracing warns and leaves the plugin up for %o", async (env, reason) => {
    expect(await start(env)).toBeUndefined();
    expect(warnings).toHaveLength(1);
    expect((warnings[0] as { err: Error }).err.message).toMatch(reason);
  });

  it("tracing takes empty variables beside an endpoint for unset ones", async () => {
    const tracing = await start({
      OTEL_EXPORTER_OTLP_ENDPOINT,
      OTEL_TRACES_EXPORTER: "",
      OTEL_EXPORTER_OTLP_PROTOCOL: "",
      OTEL_SDK_DISABLED: "",
    });
    expect(tracing).toBeDefined();
    await tracing?.stop();
  });
});
