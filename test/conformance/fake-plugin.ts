// A KMS v2 plugin without an HSM. It keeps the contract except where a test makes it break a rule.

import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { createServer } from "node:net";
import { rmSync } from "node:fs";
import { join } from "node:path";

import {
  Server,
  ServerCredentials,
  status,
  type sendUnaryData,
  type ServerUnaryCall,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";

import type { Sealed } from "../../src/conformance/rule.js";
import { kmsServiceDefinition } from "../../src/server/kms-messages.js";
import { makeFolder } from "../support/token.js";

export interface StatusAnswer {
  readonly version: string;
  readonly healthz: string;
  readonly key_id: string;
}

export interface Behaviour {
  status(answer: StatusAnswer): StatusAnswer | Promise<StatusAnswer>;
  encrypt(plaintext: Buffer, sealed: Sealed): Sealed | Promise<Sealed>;
  /** @param honest what a plugin that keeps the contract does */
  decrypt(sealed: Sealed, honest: (sealed: Sealed) => Buffer): Buffer | Promise<Buffer>;
  readonly connections: number;
  /** The status that refuses an empty plaintext. */
  readonly empty: status;
}

export const KEY_ID = "fake.1";
export const NOTE = "note.fake.example";
const HONEST: Behaviour = {
  status: (answer) => answer,
  encrypt: (_plaintext, sealed) => sealed,
  decrypt: (sealed, honest) => honest(sealed),
  connections: 64,
  empty: status.INVALID_ARGUMENT,
};

/** Returns an error with a gRPC status. */
export const refusal = (code: status): Error =>
  Object.assign(new Error("refused"), { code, details: "refused" });

export interface FakePlugin {
  readonly socket: string;
  stop(): Promise<void>;
}

/** Starts a plugin that keeps the contract except for the behaviours in `broken`. */
export async function startFakePlugin(broken: Partial<Behaviour> = {}): Promise<FakePlugin> {
  const behaviour = { ...HONEST, ...broken };
  const folder = makeFolder("fake-plugin");
  const socket = join(folder, "kms.sock");
  const grpc = new Server();
  grpc.addService(kmsServiceDefinition(), service(behaviour, randomBytes(32)));
  const injector = grpc.createConnectionInjector(ServerCredentials.createInsecure());
  const listener = createServer((connection) => {
    connection.on("error", () => undefined);
    injector.injectConnection(connection);
  });
  listener.maxConnections = behaviour.connections;
  await new Promise<void>((resolve) => listener.listen(socket, resolve));
  return {
    socket,
    stop: async () => {
      injector.destroy();
      grpc.forceShutdown();
      await new Promise((resolve) => listener.close(resolve));
      rmSync(folder, { recursive: true });
    },
  };
}

type Call = ServerUnaryCall<Record<string, unknown>, unknown>;

function service(behaviour: Behaviour, key: Buffer): UntypedServiceImplementation {
  const answering =
    (work: (request: Record<string, unknown>) => unknown) =>
    (call: Call, answer: sendUnaryData<unknown>): void => {
      Promise.resolve()
        .then(() => work(call.request))
        .then(
          (message) => {
            answer(null, message);
          },
          (error: unknown) => {
            answer(error as Error);
          },
        );
    };
  return {
    Status: answering(() => behaviour.status({ version: "v2", healthz: "ok", key_id: KEY_ID })),
    Encrypt: answering(async ({ plaintext }) => {
      if ((plaintext as Buffer).length === 0) throw refusal(behaviour.empty);
      const { keyId, ...rest } = await behaviour.encrypt(plaintext as Buffer, seal(key, plaintext as Buffer));
      return { key_id: keyId, ...rest };
    }),
    Decrypt: answering(async ({ ciphertext, key_id, annotations }) => {
      const sealed = { ciphertext, keyId: key_id, annotations } as Sealed;
      return { plaintext: await behaviour.decrypt(sealed, (one) => open(key, one)) };
    }),
  };
}

function seal(key: Buffer, plaintext: Buffer): Sealed {
  const iv = randomBytes(12);
  const cipher = createCipheriv("aes-256-gcm", key, iv);
  const ciphertext = Buffer.concat([iv, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
  return { ciphertext, keyId: KEY_ID, annotations: { [NOTE]: Buffer.of(7) } };
}

function open(key: Buffer, { ciphertext, keyId, annotations }: Sealed): Buffer {
  if (keyId !== KEY_ID) throw refusal(status.NOT_FOUND);
  const isAsMade =
    Object.keys(annotations).join() === NOTE && annotations[NOTE]?.equals(Buffer.of(7)) === true;
  if (!isAsMade || ciphertext.length < 28) throw refusal(status.INVALID_ARGUMENT);
  const decipher = createDecipheriv("aes-256-gcm", key, ciphertext.subarray(0, 12), { authTagLength: 16 });
  decipher.setAuthTag(ciphertext.subarray(-16));
  try {
    return Buffer.concat([decipher.update(ciphertext.subarray(12, -16)), decipher.final()]);
  } catch {
    throw refusal(status.INVALID_ARGUMENT);
  }
}
