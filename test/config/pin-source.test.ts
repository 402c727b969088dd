// PIN sources: how they are named and read. Neither a message nor a stamp reveals anything about the PIN.
import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { execFileSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  defaultPinSource,
  describePinSource,
  environmentWithoutPin,
  isPinPresent,
  pinSourceStamp,
  resolvePinSource,
  stampShowsChange,
  type PinSource,
} from "../../src/config/pin-source.js";
import { checkPin, readPin } from "../../src/config/read-pin.js";
import { parsePinSourceName } from "../../src/config/pin-source-name.js";
import { messageOf } from "./message-of.js";

let directory: string;
let file: PinSource & { path: string };

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "pin-source-"));
  file = { kind: "file", path: join(directory, "pin") };
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

describe("parsePinSourceName", () => {
  it.each([
    ["file:/run/pin", { kind: "file", path: "/run/pin" }],
    ["FILE:///run/a%20pin", { kind: "file", path: "/run/a pin" }],
    ["/run/pin:1", { kind: "file", path: "/run/pin:1" }],
    ["env:KMS_PIN", { kind: "env", name: "KMS_PIN" }],
    ["credential:kms-pin", { kind: "credential", name: "kms-pin" }],
  ])("parsePinSourceName reads %s", (text, source) => {
    expect(parsePinSourceName(text)).toEqual(source);
  });
});

describe("readPin", () => {
  it.each([
    ["1234", "1234"],
    ["1234\n", "1234"],
    ["1234\r\n", "1234"],
    [" 12 34 \n", " 12 34 "],
    ["x".repeat(255) + "\r\n", "x".repeat(255)],
  ])("readPin reads %j from a file and from the environment", (content, pin) => {
    writeFileSync(file.path, content);
    expect(readPin(file, {})?.toString()).toBe(pin);
    expect(readPin({ kind: "env", name: "PIN" }, { PIN: content })?.toString()).toBe(pin);
  });

  it("readPin returns undefined if no PIN is configured", () => {
    expect(readPin({ kind: "none" }, {})).toBeUndefined();
  });

  it.each([
    ["", "is empty"],
    ["\n", "is empty"],
    ["\r\n", "is empty"],
    ["5678\n5678\n", "several lines"],
    ["5678\n\n", "several lines"],
    ["\u{feff}5678", "byte order mark"],
    ["5678\u{feff}\n", "byte order mark"],
    ["5678\u{200b}", "an invisible character"],
    ["5678\u{fffd}", "UTF-8"],
    ["5678\t", "control character"],
    ["5678\u{1b}[A", "control character"],
    ["5678\u{7f}", "control character"],
    ["5678\u{85}", "control character"],
    ["5678".repeat(64), "too long"],
    ["5678".repeat(640_000), "too long"],
  ])("readPin refuses a source that holds %j", (content, problem) => {
    writeFileSync(file.path, content);
    for (const [source, env] of [
      [file, {}],
      [{ kind: "env", name: "PIN" } as const, { PIN: content }],
    ] as const) {
      const message = messageOf(() => readPin(source, env), "PIN_UNREADABLE");
      expect(message).toContain(problem);
      expect(message).toContain(describePinSource(source));
      expect(message).not.toContain("5678");
    }
  });

  it.each<[string, Buffer, string]>([
    ["bytes that are not UTF-8", Buffer.of(0x31, 0xff), "is not UTF-8"],
    ["little-endian UTF-16 with a byte order mark", Buffer.from("\u{feff}5678\n", "utf16le"), "is UTF-16"],
    [
      "big-endian UTF-16 with a byte order mark",
      Buffer.from("\u{feff}5678", "utf16le").swap16(),
      "is UTF-16",
    ],
    ["UTF-16 without a byte order mark", Buffer.from("5678\r\n", "utf16le"), "zero byte"],
    ["a C string", Buffer.from("5678\0"), "zero byte"],
    ["padding", Buffer.concat([Buffer.from("5678\n"), Buffer.alloc(60)]), "zero byte"],
  ])("readPin refuses %s from every kind of source", (_what, bytes, problem) => {
    writeFileSync(file.path, bytes);
    const credential = { kind: "credential", path: file.path } as const;
    for (const source of [file, credential]) {
      expect(messageOf(() => readPin(source, {}), "PIN_UNREADABLE")).toContain(problem);
    }
    for (const kind of ["stdin", "terminal"] as const) {
      expect(messageOf(() => checkPin(Buffer.from(bytes), { kind }), "PIN_UNREADABLE")).toContain(problem);
    }
  });

  it.each(["müller", "пароль", "a b", "pässword:user", "\u{1f600}"])("readPin accepts the PIN %j", (pin) => {
    writeFileSync(file.path, `${pin}\r\n`);
    expect(readPin(file, {})?.toString()).toBe(pin);
  });

  it("readPin names the path and what to do if there is no file to read", () => {
    const missing = messageOf(() => readPin(file, {}), "PIN_UNREADABLE");
    expect(missing).toBe(
      `the PIN's file ${file.path} cannot be read (ENOENT); create it with the token's user PIN, mode 0600`,
    );
    mkdirSync(file.path);
    expect(messageOf(() => readPin(file, {}), "PIN_UNREADABLE")).toContain("give a file that holds");
    expect(messageOf(() => readPin({ kind: "env", name: "PIN" }, {}), "PIN_UNREADABLE")).toContain(
      "variable PIN is empty",
    );
  });

  it.each([
    [{ kind: "unlock", path: "/run/unlock.sock" }, "socket /run/unlock.sock"],
    [{ kind: "stdin" }, "standard input"],
    [{ kind: "terminal" }, "the terminal"],
  ] as const)(
    "readPin reports an empty PIN from $kind as an empty PIN, not an empty source",
    (source, from) => {
      expect(messageOf(() => checkPin(Buffer.alloc(0), source), "PIN_UNREADABLE")).toBe(
        `the PIN from ${from} is empty; the token's user PIN is required`,
      );
    },
  );

  it("readPin does not block on a FIFO without a writer", () => {
    execFileSync("mkfifo", [file.path]);
    expect(messageOf(() => readPin(file, {}), "PIN_UNREADABLE")).toContain("give a regular file");
  });
});

describe("pinSourceStamp", () => {
  it("the stamp of a PIN file changes only when the file changes", () => {
    writeFileSync(file.path, "1234");
    utimesSync(file.path, 1, 1);
    const before = pinSourceStamp(file);
    expect(pinSourceStamp(file)).toBe(before);
    // Device, inode and two times; no size.
    expect(before).toMatch(/^file(:\d+){4}$/);
    utimesSync(file.path, 2, 2);
    expect(pinSourceStamp(file)).not.toBe(before);
    rmSync(file.path);
    expect(pinSourceStamp(file)).toBe("file:ENOENT");
  });

  it("the stamp of credentials and environment variables is constant", () => {
    const unit = (name: string) =>
      ({ kind: "credential", path: `/run/credentials/${name}/kms-pin` }) as const;
    for (const [source, stamp] of [
      [{ kind: "env", name: "PIN" } as const, "env:PIN"],
      [unit("kms-pkcs11.service"), "credential:kms-pin"],
      [unit("run-u12.service"), "credential:kms-pin"],
    ] as const) {
      expect(pinSourceStamp(source)).toBe(stamp);
      expect(stampShowsChange(source)).toBe(false);
    }
    expect(stampShowsChange(file)).toBe(true);
    expect(pinSourceStamp({ kind: "none" })).toBe("none");
  });
});

describe("systemd credentials", () => {
  it("systemd credentials are found in $CREDENTIALS_DIRECTORY", () => {
    const env = { CREDENTIALS_DIRECTORY: directory };
    const source = resolvePinSource({ kind: "credential", name: "pin" }, env);
    expect(source).toEqual({ kind: "credential", path: join(directory, "pin") });
    expect(describePinSource(source)).toBe("systemd credential pin");
    const named = (path: string) => resolvePinSource({ kind: "file", path }, env);
    expect(named(join(directory, "pin"))).toEqual(source);
    expect(named(join(directory, "..", "pin"))).toMatchObject({ kind: "file" });
    expect(messageOf(() => resolvePinSource({ kind: "credential", name: "pin" }, {}))).toContain(
      "LoadCredential=pin:/path",
    );
  });

  it("a systemd credential with the default name is used by default", () => {
    const env = { CREDENTIALS_DIRECTORY: directory };
    expect(defaultPinSource(env)).toEqual({ kind: "none" });
    writeFileSync(join(directory, "kms-pkcs11-pin"), "1234");
    expect(defaultPinSource(env)).toEqual({ kind: "credential", path: join(directory, "kms-pkcs11-pin") });
    expect(defaultPinSource({})).toEqual({ kind: "none" });
  });
});

it("environmentWithoutPin removes PINs and unset variables", () => {
  const env = { PATH: "/bin", PIN: "1234", OTHER: undefined };
  expect(environmentWithoutPin(env, [{ kind: "env", name: "PIN" }, { kind: "none" }])).toEqual({
    PATH: "/bin",
  });
});

describe("isPinPresent", () => {
  it("isPinPresent finds an existing file and a set variable, and nothing that commands ask for", () => {
    expect(isPinPresent(file, {})).toBe(false);
    writeFileSync(file.path, "1234");
    expect(isPinPresent(file, {})).toBe(true);
    expect(isPinPresent({ kind: "env", name: "PIN" }, {})).toBe(false);
    expect(isPinPresent({ kind: "env", name: "PIN" }, { PIN: "1234" })).toBe(true);
    expect(isPinPresent({ kind: "none" }, {})).toBe(false);
  });
});
