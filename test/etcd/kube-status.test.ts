// The reason for a refusal by the API server, an admission policy or a proxy.

import { expect, it } from "vitest";
import { describeRefusal } from "../../src/etcd/kube-status.js";

const status = (fields: object): string => JSON.stringify({ kind: "Status", status: "Failure", ...fields });
const field = { field: "data[k]", reason: "FieldValueInvalid", message: "a-secret-value" };

it.each<[string, number, string, string]>([
  ["a forbidden request", 403, status({ message: "no rights", reason: "Forbidden" }), "403 no rights"],
  [
    "a webhook",
    400,
    status({ message: 'admission webhook "w" denied: why' }),
    '400 admission webhook "w" denied: why',
  ],
  [
    "invalid fields, whose values are not repeated",
    422,
    status({ message: "a-secret-value", details: { causes: [field] } }),
    "422 invalid: data[k]",
  ],
  [
    "a policy, whose cause names no field",
    422,
    status({ message: "policy p denied: why", reason: "Invalid", details: { causes: [{ message: "why" }] } }),
    "422 policy p denied: why",
  ],
  [
    "a policy without causes",
    422,
    status({ message: "policy p denied: why", details: {} }),
    "422 policy p denied: why",
  ],
  [
    "a policy's cause beside a field",
    422,
    status({ message: "a-secret-value", details: { causes: [field, { message: "why" }] } }),
    "422 invalid: data[k]; why",
  ],
  [
    "a cause without a message",
    422,
    status({ details: { causes: [{ message: "why" }, {}, null] } }),
    "422 why",
  ],
  ["a reason alone", 409, status({ reason: "Conflict" }), "409 Conflict"],
  ["nothing but the code", 503, status({}), "503 Service Unavailable"],
  [
    "other types",
    500,
    status({ message: 7, reason: {}, details: { causes: "x" } }),
    "500 Internal Server Error",
  ],
  ["null", 500, "null", "500 null"],
  [
    "text",
    429,
    "Too many requests, please try again later.\n",
    "429 Too many requests, please try again later.",
  ],
  [
    "a page",
    502,
    "<html><head><title>Bad\nGateway</title></head></html>",
    "502 Bad Gateway (a page that is not from an API server)",
  ],
  ["no body", 504, "", "504 Gateway Timeout"],
  ["several lines", 403, status({ message: "one\r\ntwo\u2028three" }), "403 one two three"],
])("the reason for a refusal is found in %s", (_what, code, body, reason) => {
  expect(describeRefusal(code, Buffer.from(body))).toBe(reason);
});

it("a long reason is cut to 300 characters", () => {
  expect(describeRefusal(403, Buffer.from(status({ message: "x".repeat(10_000) })))).toHaveLength(300);
});
