// The connections that the contract's rules ask over: KMS v2 clients on a plugin's socket, whose errors are values.
import type { Answer, Connection, Plugin } from "../conformance/rule.js";
import { KmsError } from "../errors.js";
import { answeredStatus, KmsClient } from "../kms-client/kms-client.js";

const UID = "conformance";
/** Longer than any plugin may take, so that what is too slow is told as that. */
const PATIENCE_MS = 10_000;

export function pluginAt(socket: string): Plugin {
  return {
    socketPath: socket.replace(/^unix:(?:\/\/)?/, ""),
    connect: (authority) => connectionOf(new KmsClient(socket, PATIENCE_MS, authority)),
  };
}

function connectionOf(client: KmsClient): Connection {
  return {
    status: () => answerOf(() => client.status()),
    encrypt: (plaintext, timeoutMs) => answerOf(() => client.encrypt(plaintext, UID, timeoutMs)),
    decrypt: (sealed) => answerOf(() => client.decrypt(sealed, UID)),
    close: () => {
      client.close();
    },
  };
}

async function answerOf<T>(call: () => Promise<T>): Promise<Answer<T>> {
  const startedAt = performance.now();
  const ms = (): number => performance.now() - startedAt;
  try {
    const value = await call();
    return { value, ms: ms() };
  } catch (error) {
    const { name, text } = answeredStatus(error) ?? {
      name: "UNAVAILABLE",
      text: KmsError.from(error).message,
    };
    return { refused: name, text, ms: ms() };
  }
}
