// Which searches find the report's keys: by label, by CKA_ID, by class, for objects on the token only, in batches.
// PKCS#11 v2.40 section 5.7 (C_FindObjectsInit).
import pkcs11js, { type Attribute, type Handle } from "pkcs11js";
import type { SearchTrial, TrialLabel } from "../../hsm/wire-trials.js";
import type { TokenSession } from "../session.js";
import { outcomeOf } from "./outcome.js";
import { ownKeys, search } from "./own-objects.js";

const ON_TOKEN: Attribute = { type: pkcs11js.CKA_TOKEN, value: true };

interface Search {
  readonly name: string;
  readonly template: readonly Attribute[];
  readonly batch?: number;
  /** Whether the template names the report's keys, so that it must not return any other object. */
  readonly names: boolean;
}

/** Makes each search. @param ckaId of one of the report's keys, in hex @throws TokenFault when no search by label works */
export function trySearches(
  session: TokenSession,
  { label, ckaId }: TrialLabel & { readonly ckaId: string },
): readonly SearchTrial[] {
  const { keys: own, objectClass } = ownKeys(session, { label });
  const ofClass: Attribute = { type: pkcs11js.CKA_CLASS, value: objectClass };
  const byLabel: Attribute = { type: pkcs11js.CKA_LABEL, value: label };
  const searches: Search[] = [
    { name: "label", template: [byLabel], names: true },
    { name: "class, on token, label", template: [ofClass, ON_TOKEN, byLabel], names: true },
    {
      name: "class, on token, label; one at a time",
      template: [ofClass, ON_TOKEN, byLabel],
      batch: 1,
      names: true,
    },
    { name: "class, on token", template: [ofClass, ON_TOKEN], names: false },
    {
      name: "another label",
      template: [ofClass, { type: pkcs11js.CKA_LABEL, value: `${label} none` }],
      names: true,
    },
    ...(ckaId === ""
      ? []
      : [
          {
            name: "class, on token, CKA_ID",
            template: [ofClass, ON_TOKEN, { type: pkcs11js.CKA_ID, value: Buffer.from(ckaId, "hex") }],
            names: true,
          },
        ]),
  ];
  return searches.map((one) => trySearch(session, one, own));
}

function trySearch(
  session: TokenSession,
  { name, template, batch, names }: Search,
  own: readonly Handle[],
): SearchTrial {
  const found = search(session, template, batch);
  const handles = found.ok ? found.value : [];
  const isOwnKey = (object: Handle): boolean => own.some((one) => one.equals(object));
  const ownKeys = handles.filter(isOwnKey).length;
  return {
    search: name,
    outcome: outcomeOf(found),
    own: ownKeys,
    // A search by label alone also finds public and private keys of the report.
    others: names && name !== "label" && handles.length > ownKeys,
  };
}
