// Colours in the output of commands: which words get one, and on which streams.

import { stripVTControlCharacters } from "node:util";

import { describe, expect, it } from "vitest";

import { coloured, showsColours } from "../../src/cli/colour.js";

describe("the colours of a command's output", () => {
  it("mark states and verdicts that are a cell at the beginning of a line", () => {
    const text = "STATE   LABEL\nactive  kms-kek\nfail    config\nok";
    expect(coloured(text)).toBe(
      "STATE   LABEL\n\u001b[32mactive\u001b[39m  kms-kek\n\u001b[31mfail\u001b[39m    config\n\u001b[32mok\u001b[39m",
    );
  });

  it("mark a state beside its name, and the word that begins a message", () => {
    expect(coloured("healthz  ok")).toBe("healthz  \u001b[32mok\u001b[39m");
    expect(coloured("warning: x\nnext: y")).toBe(
      "\u001b[33mwarning\u001b[39m: x\n\u001b[36mnext\u001b[39m: y",
    );
  });

  it("leave sentences, other cells and JSON unchanged", () => {
    for (const text of ["active now", "KEK created, active now", "x  active", '{\n  "next": "active"\n}']) {
      expect(coloured(text)).toBe(text);
    }
  });

  it("change no other character", () => {
    const text = "active  a\nretired  b\nkms-pkcs11: c\nhealthz  ok";
    expect(stripVTControlCharacters(coloured(text))).toBe(text);
  });

  it("appear on terminals only", () => {
    const stream = (isTTY: boolean, colours: boolean): NodeJS.WriteStream =>
      ({ isTTY, hasColors: () => colours }) as unknown as NodeJS.WriteStream;
    expect([stream(true, true), stream(true, false), stream(false, true)].map(showsColours)).toEqual([
      true,
      false,
      false,
    ]);
  });
});
