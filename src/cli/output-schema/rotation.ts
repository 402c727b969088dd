// The output of `rotation status` and `rotation abort`.
import { z } from "zod";
import { STEPS } from "../../admin/rotation/position.js";
import { instant, next, type Printed } from "./printed.js";

const kek = z.object({ keyId: z.string(), label: z.string() });

export const rotationStatusOutput = z.object({
  step: z.enum([...STEPS, "done", "blocked"]).describe("the next step of 'rotation run'"),
  detail: z.string().describe("what the step does or waits for, or why there is none"),
  until: instant.nullable().describe("latest end of a wait; null for a step that does not wait"),
  keks: z.array(
    z.object({
      ...kek.shape,
      state: z.enum(["standby", "active", "retired"]),
      activation: instant.nullable().describe("null for a label without an instant"),
    }),
  ),
  nodes: z.array(
    z.object({
      url: z.string(),
      publishedKeyId: z.string().nullable().describe("the key_id that its last Status answer carried"),
      problems: z.array(z.string()),
    }),
  ),
  lacking: z.array(z.string()).describe("tokens and nodes that lack the standby KEK, with the reason"),
  left: z.int().nullable().describe("objects that are not under the active KEK; null if not counted"),
});
export type RotationStatusOutput = Printed<typeof rotationStatusOutput>;

export const rotationAbortOutput = z.object({ destroyed: kek, next });
export type RotationAbortOutput = Printed<typeof rotationAbortOutput>;
