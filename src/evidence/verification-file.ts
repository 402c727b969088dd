// Reads what `etcd verify -o json` wrote.
import { z } from "zod";
import { FAILED_REASON, RESOURCE_COUNTS } from "../etcd/verification-report.js";
import type { EvidenceVerification } from "./facts.js";
import { readGivenReport } from "./given-report.js";

const schema = z.object({
  objects: z.int().min(0),
  resources: z.array(z.object(RESOURCE_COUNTS)),
  failures: z.array(z.object(FAILED_REASON)),
});

/** Returns the verification in a file. @throws KmsError CONFIG_INVALID */
export function readVerification(path: string): EvidenceVerification {
  return readGivenReport(
    path,
    schema,
    "is not a verification; create it with 'kms-pkcs11 etcd verify -o json'",
  );
}
