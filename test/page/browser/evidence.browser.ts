// The page of a folder of evidence in Chromium, opened as a file: on a screen and as A4 pages.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import axe from "axe-core";
import { chromium, type Browser, type Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";

import { evidenceFiles } from "../../../src/evidence/files.js";
import { evidenceFacts } from "../../support/evidence-facts.js";
import { makeFolder } from "../../support/token.js";

const SHOTS = join(import.meta.dirname, "../../../build/page");
const HOSTILE = `"><script>document.title='evil'</script><img src=x>`;

let browser: Browser;
let page: Page;
const complaints: string[] = [];
const requests: string[] = [];

beforeAll(async () => {
  mkdirSync(SHOTS, { recursive: true });
  const file = join(makeFolder("evidence"), "index.html");
  writeFileSync(file, evidenceFiles(evidenceFacts(HOSTILE)).get("index.html") ?? "");
  const executablePath = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
  browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
  page = await browser.newPage();
  page.on("console", (message) => complaints.push(message.text()));
  page.on("request", (request) => requests.push(request.url()));
  await page.goto(String(pathToFileURL(file)));
});

afterAll(async () => {
  await browser.close();
});

it("the evidence page loads nothing else, and shows hostile text as text", async () => {
  expect(complaints).toEqual([]);
  expect(requests).toHaveLength(1);
  expect(await page.title()).toBe("Evidence, kms-pkcs11");
  expect(await page.locator("script, img").count()).toBe(0);
  expect(await page.locator("body").innerText()).toContain(HOSTILE);
});

it("the evidence page has charts with bars inside them, and axe finds nothing", async () => {
  expect(await page.locator("svg.chart").count()).toBe(2);
  for (const rect of await page.locator("svg.chart rect").all()) {
    const box = await rect.boundingBox();
    expect(box?.width).toBeGreaterThan(1);
  }
  await page.setViewportSize({ width: 1000, height: 800 });
  await page.screenshot({ path: join(SHOTS, "evidence.png"), fullPage: true });
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate<{ violations: { id: string }[] }>("axe.run()");
  expect(violations.map(({ id }) => id)).toEqual([]);
});

it("the evidence page prints on A4 without cutting anything off at the side", async () => {
  await page.emulateMedia({ media: "print" });
  // A4 is 210 mm wide; the margins take 32 mm, at 96 pixels an inch.
  const width = Math.floor(((210 - 32) / 25.4) * 96);
  await page.setViewportSize({ width, height: 900 });
  expect(await page.evaluate("document.documentElement.scrollWidth")).toBe(width);
  const pdf = await page.pdf({ path: join(SHOTS, "evidence.pdf"), preferCSSPageSize: true });
  expect(pdf.toString("latin1")).toMatch(/MediaBox \[0 0 59[45][.\d]* 84[12]/);
});
