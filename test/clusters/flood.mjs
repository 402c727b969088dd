// Floods one socket from a process of its own, so that the flood's cost to its client does not slow the measuring process:
// node flood.mjs SOCKET CONNECTIONS REQUESTS. Ends with its standard input, and prints the number of answers.

import { KmsClient } from "../../dist/kms-client/kms-client.js";

const [socket, connections, requests] = process.argv.slice(2);
let answers = 0;
for (let connection = 0; connection < Number(connections); connection++) {
  const client = new KmsClient(socket, 60_000);
  for (let request = 0; request < Number(requests); request++) void keepAsking(client);
}
process.stdout.write("flooding\n");
process.stdin.resume().once("end", () => {
  process.stdout.write(`${answers}\n`, () => process.exit(0));
});

async function keepAsking(client) {
  for (;;) {
    await client.encrypt(Buffer.alloc(32, 2), "flood").catch(() => undefined);
    answers++;
  }
}
