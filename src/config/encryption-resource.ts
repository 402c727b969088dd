// Which names of resources kube-apiserver takes in an EncryptionConfiguration (k8s.io/apiserver,
// validation_encryption.go), and the wildcard that covers each.
import { z } from "zod";

/** Internal records of kube-apiserver, which no API serves. */
const UNSERVED = ["apiserveripinfo", "serviceipallocations", "servicenodeportallocations"];

/** A name in an EncryptionConfiguration's list of resources. */
export const encryptedResource = z
  .string()
  .min(1, "give a resource")
  .refine((name) => name === name.toLowerCase(), "write resources in lower case")
  .refine((name) => name !== "*", "write *.* for all resources, or *. for those of the core group")
  .refine((name) => !UNSERVED.includes(name), "no API serves it, so that it cannot be encrypted; remove it")
  // The dot that ends a name of the core group may be left out.
  .transform((name) => (/^[^.*]+\.$/.test(name) ? name.slice(0, -1) : name))
  .refine(
    (name) => name === "*.*" || groupOf(name) !== "*",
    "the same resource across groups cannot be encrypted; name each group",
  )
  .refine(
    (name) => groupOf(name) !== "events.k8s.io",
    "write events: that is the group they are stored under",
  )
  .refine(
    (name) => groupOf(name) !== "extensions",
    "the group extensions has been removed; name the group that serves it now, such as networking.k8s.io",
  );

/** The part after the first dot; empty for the core group. */
function groupOf(resourceName: string): string {
  return /\.(.*)$/s.exec(resourceName)?.[1] ?? "";
}

/** The wildcard of a resource's group: `*.apps` for `deployments.apps`, `*.` for `secrets`. */
export function anyOf(resourceName: string): string {
  const dot = resourceName.indexOf(".");
  return dot < 0 ? "*." : `*${resourceName.slice(dot)}`;
}
