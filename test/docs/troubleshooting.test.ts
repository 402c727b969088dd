// The troubleshooting runbook quotes the plugin's messages: each quotation is compared with the source, so that a
// changed message requires a changed runbook.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { expect, it } from "vitest";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const RUNBOOK = readFileSync(join(ROOT, "deploy/runbooks/troubleshooting.md"), "utf8");
/** Quotes kube-apiserver, whose source is not in this repository. */
const FOREIGN_SECTION = /^## kube-apiserver .*?(?=^## )/ms;
const LEAST_WORDS = 3;

function sources(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => readFileSync(join(folder, name), "utf8"));
}

/** Joins a text that spans several literals, and removes its insertions. */
function flatten(source: string): string {
  return source
    .replace(/["`]\s*\+\s*["`]/g, "")
    .replace(/\$\{[^}]*\}\}?/g, "...")
    .replace(/\s+/g, " ");
}

it("the troubleshooting page quotes messages that the source contains", () => {
  const code = flatten(sources(join(ROOT, "src")).join("\n"));
  const quoted = [...RUNBOOK.replace(FOREIGN_SECTION, "").matchAll(/(?<!`)`([^`\n]+)`(?!`)/g)]
    .map(([, text = ""]) => text)
    .filter((text) => text.split(" ").length >= LEAST_WORDS && !text.startsWith("kms-pkcs11 "))
    .filter((text) => !/^(pin|keys|hsm|socket|journalctl|crictl|chmod)[ .]/.test(text));
  expect(quoted.length).toBeGreaterThan(20);
  const missing = quoted.flatMap((text) =>
    text
      .split("...")
      .map((part) => part.replace(/^[\s:;,)(]+|[\s:;,)(]+$/g, ""))
      .filter((part) => part.split(" ").length >= LEAST_WORDS && !code.includes(part)),
  );
  expect(missing).toEqual([]);
});
