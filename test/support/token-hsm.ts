// A token opened by the plugin's HSM layer, with real token hosts.

import { fileURLToPath } from "node:url";

import { pinSourceStamp } from "../../src/config/pin-source.js";
import { readPin } from "../../src/config/read-pin.js";
import { LoginGate, type Pin } from "../../src/hsm/login/login-gate.js";
import { loginStores } from "../../src/hsm/login/login-files.js";
import { TokenHsm } from "../../src/hsm/token-hsm.js";
import { SILENT } from "./fake-hsm.js";
import type { TestToken } from "./token.js";

const ENTRY = fileURLToPath(new URL("../../dist/token-host/main.js", import.meta.url));

export interface OpenOptions {
  readonly hosts?: number;
  readonly requestTimeoutMs?: number;
  readonly startTimeoutMs?: number;
  readonly sessions?: number;
  readonly queue?: number;
  readonly objectName?: string;
  /** Where logins are recorded; if omitted, in a folder that exists as long as this object. */
  readonly stateDir?: string;
  /** Read at every login; its length stands for the source's metadata. */
  readonly pin?: () => string;
  /** A file from which the plugin reads the PIN, instead of `pin`. */
  readonly pinFile?: string;
  /** Used instead of `pin` and `pinFile`. */
  readonly pinSource?: Pin;
  readonly allowFinalTry?: boolean;
  readonly pinRecheckMs?: number;
}

export interface OpenedToken {
  readonly hsm: TokenHsm;
  /** The causes of all ends of token hosts so far. */
  readonly ended: string[];
  /** The results of all calls so far. */
  readonly results: string[];
}

/** Opens a token; nothing need be ready yet. The limits are those of a test without hangs on a busy machine. */
export function openToken(token: TestToken, options: OpenOptions = {}): OpenedToken {
  const {
    hosts = 1,
    requestTimeoutMs = 20_000,
    startTimeoutMs = 60_000,
    sessions = 8,
    queue = 1_000,
  } = options;
  const ended: string[] = [];
  const results: string[] = [];
  const hsm = new TokenHsm({
    host: {
      entry: ENTRY,
      env: { ...process.env, ...token.env },
      open: {
        modulePath: token.modulePath,
        ...(token.moduleEntry !== undefined && { moduleEntry: token.moduleEntry }),
        ...(token.moduleParameters !== undefined && { moduleParameters: token.moduleParameters }),
        token: { token: token.label },
        objectName: options.objectName ?? "kms-kek",
      },
      sessions,
    },
    hosts,
    gate: new LoginGate({
      pin: pinOf(token, options),
      stores: loginStores(options.stateDir, 20_000),
      allowFinalTry: options.allowFinalTry ?? false,
      log: SILENT,
      ...(options.pinRecheckMs !== undefined && { recheckMs: options.pinRecheckMs }),
    }),
    startTimeoutMs,
    requestTimeoutMs,
    queue,
    observer: {
      hsmCallDone: (_operation, result) => results.push(result),
      hostEnded: (cause) => ended.push(cause),
    },
    log: SILENT,
  });
  hsm.start();
  return { hsm, ended, results };
}

function pinOf(token: TestToken, { pin = () => token.pin, pinFile, pinSource }: OpenOptions): Pin {
  if (pinSource !== undefined) return pinSource;
  if (pinFile !== undefined) {
    const source = { kind: "file", path: pinFile } as const;
    return {
      read: () => readPin(source, {}),
      stamp: () => pinSourceStamp(source),
      showsChange: true,
      description: `file ${pinFile}`,
      correction: "correct the PIN in its source",
    };
  }
  return {
    read: () => Buffer.from(pin()),
    showsChange: true,
    stamp: () => `stamp of ${pin().length}`,
    description: "the test",
    correction: "correct the PIN in its source",
  };
}
