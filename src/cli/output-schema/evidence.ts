// The output of the commands that write and check a folder of evidence.
import { z } from "zod";
import { count, instant, type Printed } from "./printed.js";

export const evidenceCollectOutput = z.object({
  folder: z.string(),
  manifest: z.string().describe("SHA-256 of manifest.json in hex, which identifies the whole folder"),
});
export type EvidenceCollectOutput = Printed<typeof evidenceCollectOutput>;

export const evidenceVerifyOutput = z.object({
  manifest: z.string().describe("SHA-256 of manifest.json in hex"),
  collectedAt: instant.nullable(),
  files: count,
  problems: z.array(z.string()).describe("empty if the folder is complete and unchanged"),
});
export type EvidenceVerifyOutput = Printed<typeof evidenceVerifyOutput>;
