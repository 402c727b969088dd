import { expect, it } from "vitest";

import { wrapHelp } from "../../src/cli/wrap-help.js";

const FILLED =
  "The drill stays away from the live cluster. It takes no etcd endpoints and no kubeconfig, and passes neither to its programs. It";
const TEXT = `Usage: kms-pkcs11 drill [options]

  --to <folder>   folder for the report, a description that commander has wrapped for the terminal already, whatever it is

${FILLED}
refuses a configuration.
Examples:
  kms-pkcs11 drill --snapshot backup.db --config /etc/kms-pkcs11/restored.yaml --to /var/lib/kms-pkcs11/drills --live-token
`;

it("help for a narrow terminal breaks prose between words", () => {
  const lines = wrapHelp(TEXT, 80).split("\n");
  const prose = lines.filter((line) => /^\S/.test(line));
  expect(Math.max(...prose.map((line) => line.length))).toBeLessThanOrEqual(80);
  expect(prose.join(" ")).toContain(`${FILLED} refuses a configuration.`);
});

it("help for a narrow terminal leaves options and examples as they are", () => {
  const indented = (text: string): string[] => text.split("\n").filter((line) => line.startsWith(" "));
  expect(indented(wrapHelp(TEXT, 80))).toEqual(indented(TEXT));
});

it("help for a narrow terminal keeps short lines and empty lines apart", () => {
  expect(wrapHelp("First.\nSecond.\n\nThird.\n", 80)).toBe("First.\nSecond.\n\nThird.\n");
});

it("help for a wide terminal joins the lines of a paragraph", () => {
  expect(wrapHelp(`${FILLED}\nrefuses.\n`, 200)).toBe(`${FILLED} refuses.\n`);
});
