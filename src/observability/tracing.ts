// Exports a span for every KMS request, with a child span for each of its HSM calls, in the trace that kube-apiserver
// started (W3C Trace Context in the gRPC metadata), by OTLP over HTTP. Off, and OpenTelemetry not loaded, unless the
// standard OTEL_ variables give an endpoint. Spans are made from finished requests, so no request waits for tracing.
import type * as Api from "@opentelemetry/api";
import type { Context, Tracer } from "@opentelemetry/api";
import type { ExportResultCode } from "@opentelemetry/core";
import type { BasicTracerProvider, SpanExporter } from "@opentelemetry/sdk-trace-base";
import { KmsError } from "../errors.js";
import type { HsmCall } from "../hsm/port.js";
import type { Log } from "../log.js";
import { clientText } from "../untrusted-text.js";

/** The facts of a finished request that are traced. */
export interface TracedRequest {
  readonly operation: string;
  readonly uid: string;
  readonly keyId: string | undefined;
  readonly error: Error | undefined;
  readonly seconds: number;
  readonly hsmCalls: readonly HsmCall[];
  readonly traceparent: string | undefined;
}

/** Exports spans until it is stopped. */
export interface Tracing {
  /** Exports the spans of a request. @param outcome name of its gRPC status */
  requestDone(request: TracedRequest, outcome: string): void;
  /** Exports the remaining spans, within a time limit. */
  stop(): Promise<void>;
}

const ENDPOINTS = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const STOP_MS = 2_000;

/**
 * Starts tracing. Returns undefined if it is off, or if it cannot be started, which is logged: the plugin runs without
 * it.
 */
export async function startTracing(
  env: NodeJS.ProcessEnv,
  version: string,
  log: Log,
): Promise<Tracing | undefined> {
  if (!isOn(env)) return undefined;
  try {
    refuseUnsupported(env);
    const tracing = await exportTraces(version, log);
    log.info({}, "tracing is on");
    return tracing;
  } catch (error) {
    log.warn({ err: error }, "tracing is off: the OTEL_ variables cannot be applied");
    return undefined;
  }
}

async function exportTraces(version: string, log: Log): Promise<Tracing> {
  const [api, { W3CTraceContextPropagator }, provider] = await Promise.all([
    import("@opentelemetry/api"),
    import("@opentelemetry/core"),
    createProvider(version, log),
  ]);
  const propagator = new W3CTraceContextPropagator();
  const getter = { keys: () => ["traceparent"], get: (carrier: TracedRequest) => carrier.traceparent };
  const tracer: Tracer = provider.getTracer("kubernetes-kms-pkcs11", version);
  return {
    requestDone: (request, outcome) => {
      const { operation, error } = request;
      const endedAt = Date.now();
      const calls = onTheClock(request.hsmCalls, endedAt);
      const parent = propagator.extract(api.ROOT_CONTEXT, request, getter);
      const options = {
        kind: api.SpanKind.SERVER,
        // endedAt is a little late, so the computed start may be too; no call of a request begins before the request.
        startTime: Math.min(endedAt - request.seconds * 1000, ...calls.map(startOf)),
        attributes: attributesOf(request, outcome),
      };
      const span = tracer.startSpan(`v2.KeyManagementService/${operation}`, options, parent);
      if (error !== undefined) span.setStatus({ code: api.SpanStatusCode.ERROR, message: error.message });
      const within = api.trace.setSpan(parent, span);
      for (const call of calls) traceHsmCall(api, tracer, within, call);
      span.end(endedAt);
    },
    stop: () => shutDown(provider),
  };
}

async function createProvider(version: string, log: Log): Promise<BasicTracerProvider> {
  const [{ ExportResultCode }, resources, sdk, { OTLPTraceExporter }] = await Promise.all([
    import("@opentelemetry/core"),
    import("@opentelemetry/resources"),
    import("@opentelemetry/sdk-trace-base"),
    import("@opentelemetry/exporter-trace-otlp-http"),
  ]);
  const exporter = reportFailures(new OTLPTraceExporter(), ExportResultCode.SUCCESS, log);
  return new sdk.BasicTracerProvider({
    // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES come last, so they take precedence.
    resource: resources
      .resourceFromAttributes({ "service.name": "kms-pkcs11", "service.version": version })
      .merge(resources.detectResources({ detectors: [resources.envDetector] })),
    spanProcessors: [new sdk.BatchSpanProcessor(exporter)],
  });
}

/** Exports the remaining spans, within a limit. */
async function shutDown(provider: BasicTracerProvider): Promise<void> {
  const limit = new Promise((resolve) => setTimeout(resolve, STOP_MS).unref());
  await Promise.race([provider.shutdown().catch(() => undefined), limit]);
}

function attributesOf({ operation, uid, keyId }: TracedRequest, outcome: string): Record<string, string> {
  return {
    "rpc.system": "grpc",
    "rpc.service": "v2.KeyManagementService",
    "rpc.method": operation,
    "kms.status": outcome,
    ...(uid !== "" && { "kms.uid": clientText(uid) }),
    ...(keyId !== undefined && { "kms.key_id": clientText(keyId) }),
  };
}

/** Logs why exports fail, once per reason, and that they succeed again. */
function reportFailures(exporter: SpanExporter, success: ExportResultCode, log: Log): SpanExporter {
  let failing: string | undefined;
  return {
    export: (spans, done) => {
      exporter.export(spans, (result) => {
        const reason = result.code === success ? undefined : (result.error?.message ?? "unknown error");
        if (reason === undefined && failing !== undefined) log.info({}, "traces are exported again");
        else if (reason !== failing) log.warn({ reason }, "traces cannot be exported");
        failing = reason;
        done(result);
      });
    },
    shutdown: () => exporter.shutdown(),
    forceFlush: () => exporter.forceFlush?.() ?? Promise.resolve(),
  };
}

/** Returns the calls with `endedAt` in ms since the epoch instead of performance.now(). */
function onTheClock(calls: readonly HsmCall[], now: number): HsmCall[] {
  const shift = now - performance.now();
  return calls.map((call) => ({ ...call, endedAt: call.endedAt + shift }));
}

function startOf({ endedAt, seconds }: HsmCall): number {
  return endedAt - seconds * 1000;
}

/** Exports a child span of the request's: the operation in the token host, including the transport there and back. */
function traceHsmCall(api: typeof Api, tracer: Tracer, within: Context, call: HsmCall): void {
  const options = {
    kind: api.SpanKind.CLIENT,
    startTime: startOf(call),
    attributes: { "hsm.operation": call.operation, "hsm.result": call.result },
  };
  const span = tracer.startSpan(`HSM ${call.operation}`, options, within);
  if (call.result !== "ok") span.setStatus({ code: api.SpanStatusCode.ERROR, message: call.result });
  span.end(call.endedAt);
}

/**
 * Returns whether tracing is on. An empty variable counts as unset (OpenTelemetry specification, "Environment Variable
 * Specification").
 */
function isOn(env: NodeJS.ProcessEnv): boolean {
  const exporter = valueOf(env, "OTEL_TRACES_EXPORTER");
  if (env["OTEL_SDK_DISABLED"]?.trim().toLowerCase() === "true" || exporter === "none") return false;
  return exporter !== undefined || ENDPOINTS.some((name) => valueOf(env, name) !== undefined);
}

/** @throws KmsError CONFIG_INVALID for an exporter or protocol that is not supported */
function refuseUnsupported(env: NodeJS.ProcessEnv): void {
  const exporter = valueOf(env, "OTEL_TRACES_EXPORTER");
  const protocol =
    valueOf(env, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") ?? valueOf(env, "OTEL_EXPORTER_OTLP_PROTOCOL");
  if (exporter !== undefined && exporter !== "otlp") {
    throw new KmsError("CONFIG_INVALID", "OTEL_TRACES_EXPORTER: only otlp and none are supported");
  }
  if (protocol !== undefined && protocol !== "http/json") {
    throw new KmsError("CONFIG_INVALID", "OTEL_EXPORTER_OTLP_PROTOCOL: only http/json is supported");
  }
}

function valueOf(env: NodeJS.ProcessEnv, name: string): string | undefined {
  const value = env[name]?.trim();
  return value === "" ? undefined : value;
}
