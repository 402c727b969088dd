// Connects to each configured sink once, for `check`. Sends nothing.
import { dirname } from "node:path";
import { requireWritableFolder } from "../../files/writable-folder.js";
import { openSyslog, type SinkSettings } from "./forwarding.js";
import { TRANSPORT_LIMITS } from "./transport.js";

/** The result for one sink. */
export interface SinkTrial {
  /** The setting that configures it. */
  readonly name: string;
  /** Undefined if the sink can be used. */
  readonly failure: string | undefined;
}

/** Tries the sinks. Never throws. */
export async function trySinks({ syslog, ocsf }: NonNullable<SinkSettings["sinks"]>): Promise<SinkTrial[]> {
  const trials: SinkTrial[] = [];
  if (syslog !== undefined) {
    const connect = async (): Promise<void> => {
      (await openSyslog(syslog, TRANSPORT_LIMITS)(new AbortController().signal)).close();
    };
    trials.push({ name: "audit.syslog", failure: await failureOf(connect) });
  }
  if (ocsf !== undefined) {
    const tryFolder = (): void => {
      requireWritableFolder(dirname(ocsf.file));
    };
    trials.push({ name: "audit.ocsf", failure: await failureOf(tryFolder) });
  }
  return trials;
}

async function failureOf(work: () => void | Promise<void>): Promise<string | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
