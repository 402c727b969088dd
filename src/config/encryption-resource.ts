// The resource names that kube-apiserver accepts in an EncryptionConfiguration (k8s.io/apiserver,
// validation_encryption.go), and the wildcard that covers each.
import { z } from "zod";

/** Internal records of kube-apiserver that no API serves. */
const UNSERVED = ["apiserveripinfo", "serviceipallocations", "servicenodeportallocations"];

/** A name in an EncryptionConfiguration's list of resources. */
export const encryptedResource = z
  .string()
  .min(1, "give a resource")
  .refine((name) => name === name.toLowerCase(), "write resources in lower case")
  .refine((name) => name !== "*", "write *.* for all resources, or *. for those of the core group")
  .refine((name) => !UNSERVED.includes(name), "no API serves it, so it cannot be encrypted; remove it")
  // A name in the core group may end in a dot or not.
  .transform((name) => (/^[^.*]+\.$/.test(name) ? name.slice(0, -1) : name))
  .refine(
    (name) => name === "*.*" || groupOf(name) !== "*",
    "a resource cannot be encrypted across groups; name each group",
  )
  .refine((name) => groupOf(name) !== "events.k8s.io", "write events: they are stored under the core group")
  .refine(
    (name) => groupOf(name) !== "extensions",
    "the group extensions has been removed; name the group that serves it now, such as networking.k8s.io",
  );

/** Returns the part after the first dot; empty for the core group. */
function groupOf(resourceName: string): string {
  return /\.(.*)$/s.exec(resourceName)?.[1] ?? "";
}

/** Returns the wildcard of a resource's group: `*.apps` for `deployments.apps`, `*.` for `secrets`. */
export function groupWildcard(resourceName: string): string {
  const dot = resourceName.indexOf(".");
  return dot < 0 ? "*." : `*${resourceName.slice(dot)}`;
}
