// Reads the options of `approvals policy init`.
import { digestOf } from "../../approvals/canonical-json.js";
import { formatSecond, readDocument } from "../../approvals/document.js";
import { OPERATIONS, type Person, type Policy } from "../../approvals/policy.js";
import { refusedOf } from "../../approvals/refused.js";
import { keyLine, readKeyLine } from "../../approvals/ssh-key.js";
import { invalid } from "../../config/invalid.js";
import { requireKeyId } from "./key-id.js";
import { parseTime } from "../../provider/kek-label.js";

export interface PolicyOptions {
  readonly next?: true;
  readonly cluster?: string;
  readonly approver?: readonly string[];
  readonly requester?: readonly string[];
  readonly expires?: readonly string[];
  readonly threshold?: readonly string[];
  readonly kekInUse?: readonly string[];
  readonly touchOnly?: true;
}

/** Returns the next version; what the options omit is taken from the previous one. @throws CONFIG_INVALID */
export function nextPolicy(options: PolicyOptions, before: Policy | undefined, now: number): Policy {
  const { approver = [], requester = [], kekInUse = [], touchOnly } = options;
  const cluster = options.cluster ?? before?.cluster;
  if (cluster === undefined) throw invalid("--cluster: is missing");
  for (const keyId of kekInUse) requireKeyId("--kek-in-use", keyId);
  const given = [...peopleFrom("--approver", approver, true), ...peopleFrom("--requester", requester, false)];
  const people = given.length > 0 ? merged(given) : (before?.people ?? []);
  const thresholds = thresholdsFrom(options.threshold ?? [], before?.thresholds ?? {});
  return {
    type: "kms-pkcs11/approval-policy",
    format: 1,
    version: (before?.version ?? 0) + 1,
    previous: before === undefined ? null : digestOf(before),
    cluster,
    issued: formatSecond(now) ?? "",
    people: withExpiries(people, options.expires ?? []),
    thresholds,
    requireUserVerification: touchOnly === true ? false : (before?.requireUserVerification ?? true),
    keksInUse: [...new Set([...(before?.keksInUse ?? []), ...kekInUse])],
  };
}

function pairOf(option: string, text: string): [string, string] {
  const [, name, value] = /^([^=]+)=(.+)$/.exec(text) ?? [];
  if (name === undefined || value === undefined) throw invalid(`${option}: "${text}" is not NAME=VALUE`);
  return [name, value];
}

function peopleFrom(option: string, list: readonly string[], approves: boolean): Person[] {
  return list.map((text) => {
    const [name, file] = pairOf(option, text);
    const line = readDocument(file);
    const key = refusedOf(`${option} ${name}: ${file}`, () => readKeyLine(line));
    return { name, keys: [keyLine(key)], approves, expires: null };
  });
}

/**
 * Merges the entries of a person who is named several times into one with all the keys. @throws KmsError CONFIG_INVALID
 * for two roles
 */
function merged(people: readonly Person[]): Person[] {
  const byName = new Map<string, Person>();
  for (const person of people) {
    const known = byName.get(person.name);
    if (known !== undefined && known.approves !== person.approves) {
      throw invalid(
        `--requester: ${person.name} is an --approver, who may propose too; give only one of the two options`,
      );
    }
    byName.set(
      person.name,
      known === undefined ? person : { ...known, keys: [...known.keys, ...person.keys] },
    );
  }
  return [...byName.values()];
}

function withExpiries(people: readonly Person[], expiries: readonly string[]): Person[] {
  const times = new Map(expiries.map((text) => pairOf("--expires", text)));
  for (const name of times.keys()) {
    if (!people.some((person) => person.name === name)) {
      throw invalid(`--expires: ${name} is not in the policy`);
    }
  }
  return people.map((person) => {
    const text = times.get(person.name);
    if (text === undefined) return person;
    const at = parseTime(text);
    if (at === undefined) throw invalid("--expires: give a time such as 2027-01-31T00:00:00Z");
    return { ...person, expires: formatSecond(at) ?? null };
  });
}

function thresholdsFrom(
  list: readonly string[],
  before: Partial<Policy["thresholds"]>,
): Policy["thresholds"] {
  const counts = new Map<string, number>(Object.entries(before as Record<string, number>));
  for (const text of list) {
    const [operation, count] = pairOf("--threshold", text);
    const known: readonly string[] = ["policy", ...OPERATIONS];
    if (!known.includes(operation) || !/^\d{1,2}$/.test(count)) {
      throw invalid(`--threshold: "${text}" is not one of ${known.join(", ")} with a number`);
    }
    if (count === "0") counts.delete(operation);
    else counts.set(operation, Number(count));
  }
  if (!counts.has("policy")) throw invalid("--threshold: policy=N is missing");
  return Object.fromEntries(counts) as Policy["thresholds"];
}
