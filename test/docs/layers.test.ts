// The layer table of src/README.md and the dependency rules agree, row by row.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { expect, it } from "vitest";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const ALL_BUT = "all but ";

interface Rules {
  readonly forbidden: readonly { readonly name: string; readonly comment?: string }[];
}

/** Returns what each layer may import according to the rules. */
function rules(): Map<string, string[]> {
  const { forbidden } = createRequire(import.meta.url)(join(ROOT, ".dependency-cruiser.cjs")) as Rules;
  const layers = forbidden.filter(({ name }) => name.startsWith("layer: "));
  return new Map(
    layers.map(({ name, comment = "" }) => {
      const below = comment.replace("may import ", "");
      return [
        name.replace("layer: ", ""),
        below === "nothing of src/" ? [] : below.split(", ").flatMap(expanded).sort(),
      ];
    }),
  );
}

/** Expands "hsm/(wire[^/]*|port).ts" to "hsm/wire*.ts", "hsm/port.ts". */
function expanded(path: string): string[] {
  const [, before = path, choices, after = ""] = /^(.*)\((.*)\)(.*)$/.exec(path) ?? [];
  if (choices === undefined) return [path];
  return choices.split("|").map((choice) => before + choice.replace("[^/]*", "*") + after);
}

const namesIn = (cell: string): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, name = ""]) => name);

/** Returns what each layer may import according to the table, in its order. */
function table(): Map<string, string[]> {
  const text = readFileSync(join(ROOT, "src/README.md"), "utf8");
  const lines = /^\| folder or file .*\n\|.*\n((?:\|.*\n)+)/m.exec(text)?.[1]?.trim().split("\n") ?? [];
  const rows = lines.map((line) => line.split("|").map((cell) => cell.trim()));
  const layers = rows.flatMap(([, layer = ""]) => namesIn(layer));
  return new Map(
    rows.map(([, layer = "", , cell = ""]) => {
      const [name = ""] = namesIn(layer);
      const named = namesIn(cell);
      const others = layers.filter((other) => other !== name && !named.includes(other));
      return [name, (cell.startsWith(ALL_BUT) ? others : named).sort()];
    }),
  );
}

it("the layer table of src/README.md has a row for every rule, and a rule for every row", () => {
  expect([...table().keys()].sort()).toEqual([...rules().keys()].sort());
});

it("the layer table says of each layer what the rules let it import", () => {
  expect(Object.fromEntries(table())).toEqual(Object.fromEntries(rules()));
});

it("imports point down the layer table", () => {
  const order = [...table().keys()];
  const topOf = (path: string): string => (path.startsWith("hsm/") ? "hsm/" : path);
  const upward = [...table()].flatMap(([layer, below]) =>
    below
      .filter((other) => order.indexOf(topOf(other)) <= order.indexOf(layer))
      .map((other) => `${layer} -> ${other}`),
  );
  expect(upward).toEqual([]);
});
