// The options of the audit log and of the sinks that it is sent to.
import { z } from "zod";
import { invalid } from "./invalid.js";
import { choice, flag, integer, optionalText } from "./option.js";
import { checkAbsolutePath } from "./pin-source-name.js";
import { parseSyslogAddress } from "./syslog-address.js";

export const SYSLOG_FORMATS = ["json", "ocsf"] as const;
export const SYSLOG_FACILITIES = [
  "authpriv",
  "auth",
  "audit",
  "local0",
  "local1",
  "local2",
  "local3",
  "local4",
  "local5",
  "local6",
  "local7",
] as const;

const pemFile = (why: string) => optionalText({ range: "an absolute path", read: checkAbsolutePath, why });

const syslogSection = z.strictObject({
  address: optionalText({
    range: "a socket such as /dev/log, or a server such as tls://siem.example.com:6514",
    read: parseSyslogAddress,
    why: "Where the plugin also sends the audit log (RFC 5424); what cannot be sent now is sent later from the file",
  }),
  format: choice({
    values: SYSLOG_FORMATS,
    preset: "json",
    why: "Text of the messages: `json`, the lines of the file, or `ocsf`, events of the Open Cybersecurity Schema Framework",
  }),
  facility: choice({ values: SYSLOG_FACILITIES, preset: "authpriv", why: "Facility of the messages" }),
  maxMessageBytes: integer({
    least: 1024,
    most: 65_536,
    preset: 2048,
    why: "Longest message that the receiver accepts; in longer ones, texts are shortened",
  }),
  ca: pemFile(
    "PEM file with the certificates that may issue the server's certificate; the public ones of Node.js if omitted",
  ),
  certificate: pemFile("PEM file with the certificate that the plugin presents to the server, and its chain"),
  key: pemFile("PEM file with the private key of audit.syslog.certificate"),
  serverName: optionalText({
    range: "a DNS name",
    read: checkServerName,
    why: "Name that the server's certificate must have, if it is not that in audit.syslog.address",
  }),
});

export const auditSection = z.strictObject({
  file: optionalText({
    range: "an absolute path",
    read: checkAbsolutePath,
    why: "File of the audit log, which records every use of a KEK and every command that changes one; no audit log without it",
  }),
  keyFile: optionalText({
    range: "an absolute path",
    read: checkAbsolutePath,
    why: "Key that chains the lines of the audit log, created on first use; `audit.key` in stateDir if omitted",
  }),
  maxMebibytes: integer({
    least: 1,
    most: 10_240,
    preset: 100,
    why: "Size in MiB at which the audit log is rotated",
  }),
  keep: integer({ least: 1, most: 1000, preset: 10, why: "Number of rotated audit files to keep" }),
  required: flag({
    preset: false,
    why: "Whether commands that create, change or destroy a KEK fail while the audit log cannot be written",
  }),
  syslog: syslogSection.prefault({}),
  ocsf: z
    .strictObject({
      file: optionalText({
        range: "an absolute path",
        read: checkAbsolutePath,
        why: "File to which the plugin also writes the audit log as OCSF events, for an agent; renamed to FILE.1 at audit.maxMebibytes",
      }),
    })
    .prefault({}),
});

function checkServerName(text: string): string {
  if (/^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$/.test(text)) return text;
  throw invalid("is not a DNS name; give the name in the server's certificate, such as siem.example.com");
}
