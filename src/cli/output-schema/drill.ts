// The output of `drill`: the report that it also writes to a file.
import { drillReportSchema } from "../../evidence/drill-report.js";
import type { Printed } from "./printed.js";

export const drillOutput = drillReportSchema;
export type DrillOutput = Printed<typeof drillOutput>;
