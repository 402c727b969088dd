// The page of a share on a terminal: what has to be copied fits the screen.
import { readFileSync } from "node:fs";

import { expect, it } from "vitest";

import { textPage } from "../../src/custody/share-page.js";
import type { SealedPin } from "../../src/custody/sealed-pin.js";
import { groupText, type Share } from "../../src/custody/share.js";

interface Vectors {
  readonly shares: readonly (Omit<Share, "point"> & { readonly point: string; readonly text: string })[];
}

const { shares } = JSON.parse(
  readFileSync(new URL("../vectors/custody.json", import.meta.url), "utf8"),
) as Vectors;

const pagesFor = (columns: number): { readonly text: string; readonly lines: string[] }[] =>
  shares.map(({ point, text, ...name }) => {
    const share: Share = { ...name, point: Buffer.from(point, "hex") };
    const sealed = { token: "token=kms", shares } as unknown as SealedPin;
    return { text, lines: textPage(share, sealed, columns).split("\n") };
  });

it("a page with its prompt fits a terminal of 80 columns and 24 lines", () => {
  for (const { lines } of pagesFor(80)) {
    expect(lines.length + 2).toBeLessThanOrEqual(24);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(80);
  }
});

it.each([0, 40, 60, 80, 200])("a page keeps every word and group whole on %i columns", (columns) => {
  for (const { text, lines } of pagesFor(columns)) {
    const words = lines.map((line) => line.replace(/[█▀▄ ]*$/u, "").trim()).join(" ");
    const groups = groupText(Buffer.from(text)).join(" ");
    expect(words).toContain(groups);
    expect(words).toContain("Enter it only in kms-pkcs11 unlock --share or kms-pkcs11 custody.");
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(Math.max(columns, 40));
  }
});
