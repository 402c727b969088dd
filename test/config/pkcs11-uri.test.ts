// The URI grammar of RFC 7512 and this plugin's stricter rules. No message contains a PIN.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  formatPkcs11Uri,
  parsePkcs11Uri,
  requireKekUri,
  tokenSelector,
} from "../../src/config/pkcs11-uri.js";
import { KmsError } from "../../src/errors.js";
import { messageOf } from "./message-of.js";

const refusal = (text: string): string => messageOf(() => requireKekUri(parsePkcs11Uri(text)));

describe("parsePkcs11Uri", () => {
  it("parsePkcs11Uri reads every attribute of the RFC", () => {
    const uri = parsePkcs11Uri(
      "pkcs11:token=The%20Software%20PKCS%2311;manufacturer=Snake%20Oil,%20Inc.;model=1.0;serial=0a;slot-id=327;" +
        "slot-description=d;slot-manufacturer=sm;library-manufacturer=lm;library-description=ld;library-version=2.6;" +
        "object=kms-kek;type=secret-key;id=%69%95%3E%00?module-path=/usr/lib/a.so&module-name=a&pin-source=file:/etc/pin",
    );
    expect(uri).toEqual({
      token: "The Software PKCS#11",
      manufacturer: "Snake Oil, Inc.",
      model: "1.0",
      serial: "0a",
      slotId: 327,
      slotDescription: "d",
      slotManufacturer: "sm",
      libraryManufacturer: "lm",
      libraryDescription: "ld",
      libraryVersion: "2.6",
      object: "kms-kek",
      type: "secret-key",
      id: Uint8Array.of(0x69, 0x95, 0x3e, 0),
      modulePath: "/usr/lib/a.so",
      moduleName: "a",
      pinSource: "file:/etc/pin",
    });
  });

  it("parsePkcs11Uri accepts an empty URI, any case of the scheme and of hex digits, and UTF-8", () => {
    expect(parsePkcs11Uri("pkcs11:")).toEqual({});
    expect(parsePkcs11Uri("PKCS11:token=%C3%9c%c3%9C")).toEqual({ token: "ÜÜ" });
  });

  it("parsePkcs11Uri ignores vendor attributes", () => {
    expect(parsePkcs11Uri("pkcs11:token=a;x-vendor=%20?x-q=1&x-q=2")).toEqual({ token: "a" });
  });

  it.each([
    ["", "is not a PKCS#11 URI"],
    ["file:/a", "is not a PKCS#11 URI"],
    ["pkcs11:token=a;token=b", "token appears twice; give it once"],
    ["pkcs11:token=a?module-path=/a&module-path=/b", "module-path appears twice"],
    ["pkcs11:Token=a", 'attribute "Token" is not known; did you mean token?'],
    ["pkcs11:tokn=a", "did you mean token?"],
    ["pkcs11:color=a", "give one of"],
    ["pkcs11:module-path=/a", 'module-path belongs after the "?"; move it there'],
    ["pkcs11:?token=a", 'token belongs before the "?"; move it there'],
    ["pkcs11:token", "name=value"],
    ["pkcs11:token=a;;object=b", "name=value"],
    ["pkcs11:token=a;", "name=value"],
    ["pkcs11:token=a b", "a space as %20"],
    ["pkcs11:token=a/b", "percent-encoded"],
    ["pkcs11:token=ü", "percent-encoded"],
    ["pkcs11:token=a?module-path=/a#b", "percent-encoded"],
    ["pkcs11:token=a;object=b\r", "object holds a line break; remove it"],
    ["pkcs11:token=a&object=b", 'token and object are separated by "&"; write ";" between them'],
    ["pkcs11:token=a&module-path=/m", 'write "?" before module-path, and "&" between'],
    ["pkcs11:token=a?module-path=/m;pin-source=/p", 'write "&" between them'],
    ["pkcs11:token=a?module-path=/m;object=b", 'move object before the "?"'],
    ["\u201cpkcs11:token=a", "begins with a quotation mark or a space"],
    [" pkcs11:token=a", "begins with a quotation mark or a space"],
    ["pkcs11:token=%4", "write a percent sign as %25"],
    ["pkcs11:token=%+4", "write a percent sign as %25"],
    ["pkcs11:token=%ff", "is not UTF-8"],
    ["pkcs11:token=a%00", "zero byte"],
    ["pkcs11:token=", "token is empty"],
    ["pkcs11:id=", "id is empty"],
    ["pkcs11:slot-id=1", "slot-id alone does not identify a token"],
    ["pkcs11:slot-id=1;model=m;object=kek", "slot-id alone does not identify a token"],
    ["pkcs11:token=a;slot-id=0x1", "slot-id=1"],
    ["pkcs11:token=a;slot-id=99999999999999999999", "is not a slot number"],
    ["pkcs11:type=private", "type=secret-key"],
    ["pkcs11:library-version=a", "major.minor"],
    ["pkcs11:__proto__=a", "is not known"],
    ["pkcs11:constructor=a", "is not known"],
    ["pkcs11:token=a?pin-source=%7Ccat%20/pin", "runs a program"],
    ["pkcs11:token=a?pin-source=1234", "is not an absolute path"],
    ["pkcs11:token=a?pin-source=file:pin", "file:/path"],
    ["pkcs11:token=a?pin-source=file://host/pin", "file:/path"],
    ["pkcs11:token=a?pin-source=https://host/pin", "this kind of pin-source is not known"],
    ["pkcs11:token=a?pin-source=env:A-B", "environment variable"],
    ["pkcs11:token=a?pin-source=credential:../pin", "systemd credential"],
  ])("parsePkcs11Uri refuses %j", (text, message) => {
    expect(messageOf(() => parsePkcs11Uri(text))).toContain(message);
  });

  it.each([
    "pkcs11:token=a?pin-value=hunter2hunter2",
    "pkcs11:token=a;pin-value=hunter2hunter2",
    "pkcs11:pin-value=hunter2hunter2",
    "pkcs11:token=a?module-path=/a&PIN-VALUE=hunter2hunter2",
    "pin-value=hunter2hunter2",
    "pkcs11:token=a?pin_value=hunter2hunter2&b&c=%zz",
    "pkcs11:token=a?pin-value:hunter2hunter2",
  ])("parsePkcs11Uri refuses a PIN in %j, suggests pin-source and does not repeat the PIN", (text) => {
    const message = messageOf(() => parsePkcs11Uri(text));
    expect(message).toContain("use pin-source");
    expect(message).not.toContain("hunter2");
  });

  it("parsePkcs11Uri returns a URI or throws CONFIG_INVALID for any text", () => {
    const piece = fc.constantFrom(
      "pkcs11:",
      ";",
      "&",
      "?",
      "=",
      "%4",
      "token",
      "id",
      "object",
      "slot-id",
      "pin-source",
      "file:/",
    );
    const nearlyUris = fc
      .array(fc.oneof(piece, fc.string({ unit: "binary", maxLength: 3 })))
      .map((parts) => "pkcs11:" + parts.join(""));
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: "binary" }), nearlyUris), (text) => {
        try {
          parsePkcs11Uri(text);
        } catch (error) {
          expect(error).toBeInstanceOf(KmsError);
          expect(error).toHaveProperty("code", "CONFIG_INVALID");
        }
      }),
      { numRuns: 2000 },
    );
  });

  it("parsePkcs11Uri never repeats a pin-value, whatever its position", () => {
    const pin = fc.stringMatching(/^[A-Z0-9!?&;=%/]{8,24}$/);
    const before = fc.constantFrom(
      "pkcs11:",
      "pkcs11:token=a;",
      "pkcs11:token=a?",
      "pkcs11:?module-path=/a&",
      "",
      "pkcs11:x-a=1?x-b=2&",
    );
    fc.assert(
      fc.property(before, pin, fc.string(), (start, secret, end) => {
        const message = messageOf(() => parsePkcs11Uri(`${start}pin-value=${secret}${end}`));
        expect(message).toContain("pin-source");
        expect(message).not.toContain(secret);
      }),
    );
  });
});

describe("formatPkcs11Uri", () => {
  const text = fc
    .string({ unit: "grapheme", minLength: 1 })
    .filter((value) => Buffer.from(value).toString() === value && !value.includes("\0"));
  const uris = fc.record(
    {
      token: text,
      manufacturer: text,
      serial: text,
      model: text,
      slotId: fc.nat(),
      slotDescription: text,
      libraryVersion: fc.constantFrom("2", "2.40"),
      object: text,
      id: fc.uint8Array({ minLength: 1, maxLength: 40 }).map((bytes) => Uint8Array.from(bytes)),
      type: fc.constant("secret-key" as const),
      modulePath: text,
      pinSource: fc.constantFrom("file:/run/a%20b", "/pin file", "env:PIN", "credential:pin"),
    },
    { requiredKeys: ["token"] },
  );

  it("formatPkcs11Uri writes a URI that is the same after being parsed and formatted", () => {
    fc.assert(
      fc.property(uris, (uri) => {
        const formatted = formatPkcs11Uri(uri);
        expect(formatted).toMatch(/^[\x21-\x7e]+$/);
        expect(parsePkcs11Uri(formatted)).toEqual(uri);
        expect(formatPkcs11Uri(parsePkcs11Uri(formatted))).toBe(formatted);
      }),
    );
  });

  it("formatPkcs11Uri escapes only what must be escaped, in the canonical order of attributes", () => {
    const uri = parsePkcs11Uri(
      "pkcs11:object=kms-kek;token=my%20token;id=%01a?pin-source=file:/run/pin&module-path=/usr/lib/a.so",
    );
    expect(formatPkcs11Uri(uri)).toBe(
      "pkcs11:token=my%20token;object=kms-kek;id=%01%61?module-path=/usr/lib/a.so&pin-source=file:/run/pin",
    );
  });
});

describe("requireKekUri", () => {
  it.each([
    ["pkcs11:token=a", "add object=NAME"],
    ["pkcs11:object=sixteen-letters1", "1 to 15 printable ASCII"],
    ["pkcs11:object=kek@2026", "1 to 15 printable ASCII"],
    ["pkcs11:object=k%C3%A9k", "1 to 15 printable ASCII"],
    ["pkcs11:object=a%0Ab", "1 to 15 printable ASCII"],
    ["pkcs11:object=kek;slot-description=x", "slot-description cannot select a token"],
  ])("requireKekUri refuses %s", (uri, message) => {
    expect(refusal(uri)).toContain(message);
  });

  it("requireKekUri accepts an object name of 15 characters", () => {
    expect(requireKekUri(parsePkcs11Uri("pkcs11:object=fifteen-letters")).object).toBe("fifteen-letters");
  });
});

it("tokenSelector returns only the attributes that select the token", () => {
  const uri = parsePkcs11Uri("pkcs11:token=t;serial=s;slot-id=4;object=o?module-path=/m");
  expect(tokenSelector(uri)).toEqual({ token: "t", serial: "s", slotId: 4 });
});
