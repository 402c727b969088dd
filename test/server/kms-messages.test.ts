// The service and its messages, compared with what protobufjs makes of the proto file.

import { fileURLToPath } from "node:url";

import { loadSync, type MethodDefinition, type ServiceDefinition } from "@grpc/proto-loader";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { kmsServiceDefinition } from "../../src/server/kms-messages.js";

const PROTO = fileURLToPath(new URL("../../proto/kms/v2/api.proto", import.meta.url));
const fromFile = loadSync(PROTO, { keepCase: true, defaults: true })[
  "v2.KeyManagementService"
] as ServiceDefinition;
const ours = kmsServiceDefinition() as unknown as ServiceDefinition;

type Rpc = MethodDefinition<object, object>;

const text = fc.string({ unit: "grapheme", maxLength: 40 });
const bytes = fc.uint8Array({ maxLength: 40 }).map((value) => Buffer.from(value));
const map = fc.dictionary(fc.oneof(text, fc.constantFrom("__proto__", "constructor")), bytes, {
  maxKeys: 4,
  noNullPrototype: true,
});
const MESSAGES = {
  Status: { request: fc.record({}), response: fc.record({ version: text, healthz: text, key_id: text }) },
  Decrypt: {
    request: fc.record({ ciphertext: bytes, uid: text, key_id: text, annotations: map }),
    response: fc.record({ plaintext: bytes }),
  },
  Encrypt: {
    request: fc.record({ plaintext: bytes, uid: text }),
    response: fc.record({ ciphertext: bytes, key_id: text, annotations: map }),
  },
};

it("the service has the RPCs of the proto file under the same paths", () => {
  const pathsOf = (service: ServiceDefinition): string[] =>
    Object.values(service)
      .map(({ path }) => path)
      .sort();
  expect(pathsOf(ours)).toEqual(pathsOf(fromFile));
});

describe.each(Object.entries(MESSAGES))("%s", (name, { request, response }) => {
  const [own, other] = [ours[name], fromFile[name]] as [Rpc, Rpc];

  it("messages that the proto file's code writes are read, and the reverse", () => {
    fc.assert(
      fc.property(request as fc.Arbitrary<object>, response as fc.Arbitrary<object>, (question, answer) => {
        expect(own.requestDeserialize(other.requestSerialize(question))).toEqual(question);
        expect(other.requestDeserialize(own.requestSerialize(question))).toEqual(question);
        expect(own.responseDeserialize(other.responseSerialize(answer))).toEqual(answer);
        expect(other.responseDeserialize(own.responseSerialize(answer))).toEqual(answer);
      }),
    );
  });

  it("a message without fields has empty ones", () => {
    expect(own.requestDeserialize(Buffer.alloc(0))).toEqual(other.requestDeserialize(Buffer.alloc(0)));
  });

  it("random bytes are refused, or give a message with every field", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (random) => {
        let message: object;
        try {
          message = own.requestDeserialize(Buffer.from(random));
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
          return;
        }
        const empty = other.requestDeserialize(Buffer.alloc(0));
        expect(Object.keys(message).sort()).toEqual(Object.keys(empty).sort());
      }),
    );
  });
});
