// Writes a line of the audit log as an event of the Open Cybersecurity Schema Framework, version 1.5.0
// (https://schema.ocsf.io/1.5.0, https://github.com/ocsf/ocsf-schema): requests and commands as API Activity (6003), start and
// stop as Application Lifecycle (6002), findings about the log itself as the Base Event (0). A test validates every kind of line
// against an excerpt of the schema.
import { LineFields, type Line } from "./line-fields.js";
import { isGood, severityOf, type Severity } from "./severity.js";

export const OCSF_VERSION = "1.5.0";

/** What an event says about its sender. */
export interface OcsfSender {
  readonly host: string;
  readonly version: string;
}

/** An event, by the names of its attributes. */
export type OcsfEvent = Readonly<Record<string, unknown>>;

const NAME = "kms-pkcs11";
const OTHER = 99;
const SUCCESS = 1;
const FAILURE = 2;
const SEVERITY_ID: Readonly<Record<Severity, number>> = { info: 1, notice: 2, warning: 3, alarm: 5 };
/** Events without an outcome that report a success. */
const DONE = ["started", "stopped", "locked", "unlocked"];

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

/** Returns the event. Fields of the line that have no attribute, or not the attribute's type, are `unmapped`. */
export function ocsfEvent(line: Line, sender: OcsfSender): OcsfEvent {
  const fields = new LineFields(line);
  const activity = activityOf(line);
  const time = Date.parse(fields.text("time") ?? "");
  const duration = typeof line["ms"] === "number" ? Math.round(line["ms"]) : NaN;
  const event = {
    class_uid: activity.class,
    category_uid: activity.category,
    type_uid: activity.class * 100 + activity.id,
    activity_id: activity.id,
    activity_name: activity.name,
    time: Number.isNaN(time) ? Date.now() : time,
    timezone_offset: 0,
    severity_id: SEVERITY_ID[severityOf(line)],
    ...statusOf(line, fields),
    // Rounded, so `ms` is unmapped too.
    ...(Number.isSafeInteger(duration) && duration >= 0 && { duration }),
    message: messageOf(line),
    metadata: metadataOf(fields, sender),
    ...detailsOf(activity, line, fields, sender),
  };
  const unmapped = fields.unread();
  return { ...event, ...(Object.keys(unmapped).length > 0 && { unmapped }) };
}

function activityOf({ event, operation }: Line): Activity {
  const lifecycle = { class: 6002, category: 6 };
  if (event === "started") return { ...lifecycle, id: 3, name: "Start" };
  if (event === "stopped") return { ...lifecycle, id: 4, name: "Stop" };
  const isApi = ["request", "operator", "share", "locked", "unlocked"].includes(String(event));
  if (!isApi) return { class: 0, category: 0, id: OTHER, name: String(event) };
  const name = typeof operation === "string" ? operation : String(event);
  const id = Object.hasOwn(CRUD, name) ? CRUD[name] : undefined;
  return {
    class: 6003,
    category: 6,
    id: id ?? OTHER,
    name: id === undefined ? name : (CRUD_NAMES[id] ?? name),
  };
}

function statusOf(line: Line, fields: LineFields): object {
  const detail = fields.text("reason") ?? fields.text("healthz");
  const status_detail = detail === undefined ? {} : { status_detail: detail };
  const outcome = fields.text("outcome");
  if (outcome === undefined) {
    const isDone = DONE.includes(String(line["event"]));
    return { ...(isDone && { status_id: SUCCESS, status: "Success" }), ...status_detail };
  }
  // The intent of a change is neither a success nor a failure yet.
  const id = outcome === "begun" ? OTHER : isGood(line) ? SUCCESS : FAILURE;
  const status = id === OTHER ? outcome : id === SUCCESS ? "Success" : "Failure";
  return { status_id: id, status, status_code: outcome, ...status_detail };
}

function messageOf({ event, operation, outcome, reason, keyId }: Line): string {
  const what = typeof operation === "string" ? operation : String(event);
  const key = typeof keyId === "string" ? ` ${keyId}` : "";
  const end = outcome ?? reason;
  return `${what}${key}${typeof end === "string" ? `: ${end}` : ""}`;
}

function metadataOf(fields: LineFields, { version }: OcsfSender): object {
  const [mac, sequence, event] = [fields.text("mac"), fields.number("seq"), fields.text("event")];
  return {
    version: OCSF_VERSION,
    product: { name: NAME, vendor_name: NAME, version },
    log_name: "audit",
    log_provider: NAME,
    ...(event !== undefined && { event_code: event }),
    ...(mac !== undefined && { uid: mac }),
    ...(sequence !== undefined && { sequence }),
  };
}

function detailsOf({ class: uid }: Activity, line: Line, fields: LineFields, sender: OcsfSender): object {
  const { host, version } = sender;
  if (uid === 6002) {
    return { app: { name: NAME, vendor_name: NAME, version: fields.text("version") ?? version } };
  }
  if (uid !== 6003) return {};
  const [keyId, peer, userAgent] = [fields.text("keyId"), fields.text("peer"), fields.text("userAgent")];
  const { user, from } = operatorOf(line);
  const isRequest = line["event"] === "request";
  const app = userAgent ?? (isRequest ? "unknown" : NAME);
  return {
    actor: { app_name: app, ...(user !== undefined && { user }) },
    api: apiOf(line, fields),
    ...(userAgent !== undefined && { http_request: { user_agent: userAgent } }),
    src_endpoint: { hostname: from ?? host, ...(peer !== undefined && { name: peer }) },
    ...(isRequest && { dst_endpoint: { hostname: host, svc_name: NAME } }),
    ...(keyId !== undefined && { resources: [{ uid: keyId, type: "KEK" }] }),
  };
}

function apiOf(line: Line, fields: LineFields): object {
  const { event, outcome } = line;
  const uid = fields.text("uid");
  return {
    operation: fields.text("operation") ?? String(event),
    service: { name: event === "request" ? "KeyManagementService" : NAME },
    ...(uid !== undefined && { request: { uid } }),
    ...(typeof outcome === "string" && {
      response: { message: outcome, ...(!isGood(line) && { error: outcome }) },
    }),
  };
}

/** Returns who ran a command, and where. The whole field is unmapped too: it says more than these attributes. */
function operatorOf({ operator }: Line): { readonly user?: object; readonly from?: string } {
  if (typeof operator !== "object" || operator === null) return {};
  const { user, uid, host } = operator as Record<string, unknown>;
  const account = {
    ...(typeof user === "string" && { name: user }),
    ...(typeof uid === "number" && { uid: String(uid) }),
  };
  return {
    ...(Object.keys(account).length > 0 && { user: account }),
    ...(typeof host === "string" && { from: host }),
  };
}
