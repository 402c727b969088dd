// Attacks on HTTP/2: bytes of other protocols, invalid frames, and floods.

import {
  callHeaders,
  CONTINUATION,
  END_HEADERS,
  END_STREAM,
  frame,
  GOAWAY,
  header,
  PING,
  PREFACE,
  PRIORITY,
  RST_STREAM,
  SETTINGS,
  uint32,
  WINDOW_UPDATE,
} from "../support/http2-frames.js";
import { below, bytesOf, method, nth, open, OPENING, pick, repeat, STREAM, type Families } from "./draw.js";

export const HTTP2_FAMILIES: Families = {
  // At least one byte: a connection that sends nothing gets no answer.
  "no preface": (random) => Buffer.concat([Buffer.of(below(random, 256)), bytesOf(random, 600)]),
  "a part of the preface": (random) => PREFACE.subarray(0, 1 + below(random, PREFACE.length - 1)),
  "another protocol": (random) =>
    Buffer.from(
      pick(random, [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST / HTTP/1.1\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n",
        "\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
      ]),
      "latin1",
    ),
  "random frames": (random) =>
    Buffer.concat([
      OPENING,
      repeat(1 + below(random, 20), () =>
        frame(below(random, 16), below(random, 256), below(random, 5), bytesOf(random, 200)),
      ),
    ]),
  "frames with another length": (random) =>
    Buffer.concat([
      OPENING,
      frame(below(random, 10), 0, below(random, 3), bytesOf(random, 50), below(random, 0x1000000)),
      bytesOf(random, 300),
    ]),
  "giant headers": (random) =>
    Buffer.concat([
      OPENING,
      open(STREAM, callHeaders(method(random)), 0),
      repeat(8 + below(random, 40), () =>
        frame(CONTINUATION, 0, STREAM, header("x-long", "y".repeat(16_000))),
      ),
      frame(CONTINUATION, END_HEADERS, STREAM),
    ]),
  "many headers": (random) =>
    Buffer.concat([
      OPENING,
      open(
        STREAM,
        Buffer.concat([
          callHeaders(method(random)),
          repeat(below(random, 1_000), (index) => header(`x-${index}`, "y")),
        ]),
      ),
    ]),
  "wrong headers": (random) =>
    Buffer.concat([
      OPENING,
      open(
        STREAM,
        Buffer.concat(
          Array.from({ length: below(random, 8) }, () =>
            header(
              pick(random, [
                ":method",
                ":path",
                ":authority",
                ":status",
                "content-type",
                "te",
                "X-UP",
                "",
                "grpc-timeout",
                "grpc-encoding",
              ]),
              pick(random, [
                "",
                "POST",
                "/",
                "/a/b/c",
                "\0\r\n",
                "application/grpc",
                "99999999H",
                "-1S",
                "gzip",
                "x".repeat(5_000),
              ]),
            ),
          ),
        ),
        END_HEADERS | END_STREAM,
      ),
    ]),
  "headers that do not decode": (random) =>
    Buffer.concat([
      OPENING,
      open(STREAM, Buffer.concat([Buffer.of(0x3f, 0xff, 0xff, 0xff, 0x7f), bytesOf(random, 300)])),
    ]),
  "a flood of CONTINUATION": (random) =>
    Buffer.concat([
      OPENING,
      open(STREAM, callHeaders("Status"), 0),
      repeat(below(random, 5_000), () => frame(CONTINUATION, 0, STREAM, bytesOf(random, 4))),
    ]),
  "a flood of RST_STREAM": (random) =>
    Buffer.concat([
      OPENING,
      repeat(below(random, 2_000), (index) =>
        Buffer.concat([
          open(nth(index), callHeaders("Decrypt")),
          frame(RST_STREAM, 0, nth(index), uint32(8)),
        ]),
      ),
    ]),
  "a flood of SETTINGS": (random) =>
    Buffer.concat([
      OPENING,
      repeat(below(random, 5_000), () =>
        frame(
          SETTINGS,
          0,
          0,
          Buffer.concat([Buffer.of(0, below(random, 10)), uint32(below(random, 2 ** 32))]),
        ),
      ),
    ]),
  "a flood of PING": (random) =>
    Buffer.concat([OPENING, repeat(below(random, 5_000), () => frame(PING, 0, 0, Buffer.alloc(8)))]),
  "a flood of priorities and windows": (random) =>
    Buffer.concat([
      OPENING,
      repeat(below(random, 2_000), (index) =>
        random() < 0.5
          ? frame(
              PRIORITY,
              0,
              nth(index),
              Buffer.concat([uint32(nth(below(random, index + 1))), Buffer.of(1)]),
            )
          : frame(WINDOW_UPDATE, 0, 0, uint32(below(random, 100))),
      ),
    ]),
  "a window that overflows, a GOAWAY": (random) =>
    Buffer.concat([
      OPENING,
      repeat(3, () => frame(WINDOW_UPDATE, 0, below(random, 2), uint32(0x7fffffff))),
      frame(GOAWAY, 0, 0, Buffer.concat([uint32(below(random, 2 ** 32)), uint32(0), bytesOf(random, 200)])),
    ]),
};
