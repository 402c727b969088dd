// Writes a line of the audit log as an event of the Open Cybersecurity Schema Framework, version 1.5.0
// (https://schema.ocsf.io/1.5.0, https://github.com/ocsf/ocsf-schema): requests and commands as API Activity (6003), start and
// stop as Application Lifecycle (6002), findings about the log itself as the Base Event (0).
import { isGood, severityOf, type Severity } from "./severity.js";
import type { Line } from "./line-fields.js";

export const OCSF_VERSION = "1.5.0";

/** What an event says about its sender. */
export interface OcsfSender {
  readonly host: string;
  readonly version: string;
}

const NAME = "kms-pkcs11";
const OTHER = 99;
const SEVERITY_ID: Readonly<Record<Severity, number>> = { info: 1, notice: 2, warning: 3, alarm: 5 };
/** Fields that have an attribute of the schema; the others are `unmapped`. */
const MAPPED = new Set([
  "time",
  "seq",
  "event",
  "operation",
  "outcome",
  "ms",
  "peer",
  "userAgent",
  "reason",
  "healthz",
]);

interface Activity {
  readonly class: number;
  readonly category: number;
  readonly id: number;
  readonly name: string;
}

/** Commands and requests that create, read, update or delete; every other operation is "Other" by its name. */
const CRUD: Readonly<Record<string, number>> = {
  Status: 2,
  "etcd get": 2,
  "keys create": 1,
  "keys adopt": 1,
  "keys rotate": 1,
  "keys destroy": 4,
  "custody renew": 3,
};
const CRUD_NAMES = ["", "Create", "Read", "Update", "Delete"];

/** Returns the event. */
export function ocsfEvent(line: Line, sender: OcsfSender): Record<string, unknown> {
  const activity = activityOf(line);
  const time = typeof line["time"] === "string" ? Date.parse(line["time"]) : NaN;
  const unmapped = Object.entries(line).filter(([name]) => !MAPPED.has(name));
  return {
    class_uid: activity.class,
    category_uid: activity.category,
    type_uid: activity.class * 100 + activity.id,
    activity_id: activity.id,
    activity_name: activity.name,
    time: Number.isNaN(time) ? Date.now() : time,
    severity_id: SEVERITY_ID[severityOf(line)],
    ...statusOf(line),
    ...(typeof line["ms"] === "number" && { duration: Math.round(line["ms"]) }),
    message: messageOf(line),
    metadata: {
      version: OCSF_VERSION,
      product: { name: NAME, vendor_name: NAME, version: sender.version },
      log_name: "audit",
      ...(typeof line["mac"] === "string" && { uid: line["mac"] }),
      ...(typeof line["seq"] === "number" && { sequence: line["seq"] }),
    },
    ...detailsOf(activity, line, sender),
    unmapped: Object.fromEntries(unmapped),
  };
}

function activityOf({ event, operation }: Line): Activity {
  const lifecycle = { class: 6002, category: 6 };
  if (event === "started") return { ...lifecycle, id: 3, name: "Start" };
  if (event === "stopped") return { ...lifecycle, id: 4, name: "Stop" };
  const isApi = ["request", "operator", "share", "locked", "unlocked"].includes(String(event));
  if (!isApi) return { class: 0, category: 0, id: OTHER, name: String(event) };
  const name = typeof operation === "string" ? operation : String(event);
  const id = CRUD[name];
  return {
    class: 6003,
    category: 6,
    id: id ?? OTHER,
    name: id === undefined ? name : (CRUD_NAMES[id] ?? name),
  };
}

function statusOf(line: Line): Record<string, unknown> {
  const { outcome, reason, healthz } = line;
  if (typeof outcome !== "string") return {};
  const detail = reason ?? healthz;
  // The intent of a change is neither a success nor a failure yet.
  const id = outcome === "begun" ? OTHER : isGood(line) ? 1 : 2;
  return {
    status_id: id,
    status: id === OTHER ? outcome : id === 1 ? "Success" : "Failure",
    status_code: outcome,
    ...(typeof detail === "string" && { status_detail: detail }),
  };
}

function messageOf({ event, operation, outcome, reason, keyId }: Line): string {
  const what = typeof operation === "string" ? operation : String(event);
  const key = typeof keyId === "string" ? ` ${keyId}` : "";
  const end = outcome ?? reason;
  return `${what}${key}${typeof end === "string" ? `: ${end}` : ""}`;
}

function detailsOf(
  { class: uid }: Activity,
  line: Line,
  { host, version }: OcsfSender,
): Record<string, unknown> {
  if (uid === 6002) return { app: { name: NAME, vendor_name: NAME, version: line["version"] ?? version } };
  if (uid !== 6003) return {};
  const { keyId, operation, event, peer, userAgent, outcome } = line;
  return {
    actor: actorOf(line),
    api: {
      operation: typeof operation === "string" ? operation : String(event),
      service: { name: event === "request" ? "KeyManagementService" : NAME },
      ...(typeof line["uid"] === "string" && { request: { uid: line["uid"] } }),
      ...(typeof outcome === "string" && { response: { message: outcome } }),
    },
    src_endpoint: {
      hostname: host,
      ...(typeof peer === "string" && { name: peer }),
      ...(typeof userAgent === "string" && { svc_name: userAgent }),
    },
    ...(typeof keyId === "string" && { resources: [{ uid: keyId, type: "KEK" }] }),
  };
}

function actorOf({ operator, userAgent }: Line): Record<string, unknown> {
  const app = { app_name: typeof userAgent === "string" ? userAgent : NAME };
  if (typeof operator !== "object" || operator === null) return app;
  const { user, uid } = operator as Record<string, unknown>;
  return {
    ...app,
    user: {
      ...(typeof user === "string" && { name: user }),
      ...(typeof uid === "number" && { uid: String(uid) }),
    },
  };
}
