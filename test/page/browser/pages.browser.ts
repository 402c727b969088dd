// The plugin's page and the console in Chromium, served by real plugins on SoftHSM: one node with a hostile label and a
// standby KEK, another without the standby, and an address where nothing listens.

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

import axe from "axe-core";
import { chromium, type Browser, type BrowserContext, type Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";

import { freePort } from "../../support/free-port.js";
import { createKek, kmsPkcs11, MAIN, PluginProcess } from "../../support/plugin-process.js";
import { createSoftHsm } from "../../support/softhsm.js";

/** The most hostile label: a KEK's name has at most 15 printable ASCII characters. */
const HOSTILE = `"><script>'&lt;`;
const SHOTS = join(import.meta.dirname, "../../../build/page");

const softHsms = [createSoftHsm(), createSoftHsm()];
const plugins: PluginProcess[] = [];
let urls: string[] = [];
let browser: Browser;
let consoleProcess: ChildProcess | undefined;
let consoleUrl = "";
let context: BrowserContext | undefined;

beforeAll(async () => {
  mkdirSync(SHOTS, { recursive: true });
  const ports = [await freePort(), await freePort(), await freePort()];
  urls = ports.map((port) => `http://127.0.0.1:${port}/`);
  for (const [at, token] of softHsms.entries()) {
    createKek(token, HOSTILE);
    plugins.push(new PluginProcess(token, { http: { address: `127.0.0.1:${ports[at] ?? 0}` } }, HOSTILE));
  }
  const executablePath = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
  // Its sandbox does not work for root, and the pages are this project's own.
  browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
  const [first] = plugins;
  const rotate = ["keys", "rotate", "--config", first?.configFile ?? "", "--activate-in", "20m"];
  kmsPkcs11(rotate, softHsms[0]?.env);
  await Promise.all(plugins.map((plugin) => plugin.start()));
  consoleProcess = spawn(process.execPath, [
    MAIN,
    "console",
    "--nodes",
    urls.map((url) => url.slice(0, -1)).join(","),
  ]);
  for await (const line of createInterface({ input: consoleProcess.stdout ?? process.stdin })) {
    consoleUrl = /http:\S+/.exec(line)?.[0] ?? "";
    break;
  }
});

afterAll(async () => {
  consoleProcess?.kill("SIGKILL");
  await browser.close();
  await Promise.all(plugins.map((plugin) => plugin.stop()));
  for (const part of [...plugins, ...softHsms]) part.remove();
});

afterEach(async () => {
  await context?.close();
  context = undefined;
});

/** What the browser complained about, policy violations included. */
const complaints: string[] = [];

async function open(url: string, options: Parameters<Browser["newContext"]>[0] = {}): Promise<Page> {
  complaints.length = 0;
  context = await browser.newContext(options);
  const page = await context.newPage();
  page.on("console", (message) => complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("dialog", (dialog) => complaints.push(dialog.message()));
  await page.goto(url);
  return page;
}

const LOOKS = [
  { name: "phone", width: 360 },
  { name: "desktop", width: 1280 },
].flatMap(({ name, width }) =>
  (["light", "dark"] as const).map((colorScheme) => ({ name, width, colorScheme })),
);

interface AxeResult {
  readonly violations: readonly {
    readonly id: string;
    readonly nodes: readonly { readonly html: string }[];
  }[];
}

async function requireAccessible(page: Page): Promise<void> {
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate<AxeResult>("axe.run()");
  expect(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`)).toEqual([]);
}

async function requireLook(
  page: Page,
  what: string,
  { name, width, colorScheme }: (typeof LOOKS)[number],
): Promise<void> {
  await page.setViewportSize({ width, height: 800 });
  await page.emulateMedia({ colorScheme });
  await page.screenshot({ path: join(SHOTS, `${what}-${name}-${colorScheme}.png`), fullPage: true });
  expect(await page.evaluate("document.documentElement.scrollWidth")).toBe(width);
  await requireAccessible(page);
}

describe("the plugin's page", () => {
  const url = (): string => urls[0] ?? "";

  it.each(LOOKS)("the plugin's page fits a $name in $colorScheme, and axe finds nothing", async (look) => {
    const page = await open(url());
    await requireLook(page, "plugin", look);
    expect(complaints).toEqual([]);
  });

  it("the plugin's page shows the KEKs, and a hostile label as text", async () => {
    const page = await open(url());
    expect(await page.locator("h1").innerText()).toBe("Ready");
    expect(await page.locator(".kek .state").allInnerTexts()).toEqual(["standby", "active"]);
    expect(await page.locator(".kek.active .label").innerText()).toContain(HOSTILE);
    expect(await page.title()).toBe("Ready · kms-pkcs11");
    expect(await page.locator("img").count()).toBe(0);
    expect(complaints).toEqual([]);
  });

  it("the plugin's page can be read by its headings and by the keyboard", async () => {
    const page = await open(url());
    expect(await page.locator("h1, h2").allInnerTexts()).toEqual([
      "Ready",
      "Health",
      "Key encryption keys",
      "Objects in etcd",
      "Cache and working set",
      "Requests since the start",
      "Audit log",
    ]);
    const reached: string[] = [];
    for (let presses = 0; presses < 5; presses += 1) {
      await page.keyboard.press("Tab");
      reached.push(await page.evaluate<string>("document.activeElement.textContent.trim().slice(0, 12)"));
    }
    expect(reached).toEqual(["kms-pkcs11 e", "/readyz", "/keys", "/metrics", "Pause refres"]);
    await page.keyboard.press("Enter");
    expect(await page.locator("#refresh").innerText()).toContain("Paused.");
  });

  it("the plugin's page follows the plugin, and shows when it no longer answers", async () => {
    context = await browser.newContext();
    const page = await context.newPage();
    await page.clock.install();
    await page.goto(url());
    const before = await page.locator("header time").innerText();
    await page.clock.runFor(11_000);
    await page.locator("header time", { hasNotText: before }).waitFor();
    await page.route("**", (route) => route.abort());
    await page.clock.runFor(11_000);
    await page.locator("#refresh", { hasText: "No answer since" }).waitFor();
    expect(await page.locator("[role=status]").innerText()).toContain("No answer since");
    await page.unroute("**");
    await page.clock.runFor(11_000);
    await page.locator("#refresh", { hasText: "Refreshes every 10 seconds." }).waitFor();
  });

  it("the plugin's page works without JavaScript", async () => {
    const page = await open(url(), { javaScriptEnabled: false });
    expect(await page.locator("#refresh").innerText()).toBe("Reload the page to see a newer state.");
    expect(await page.locator(".kek").count()).toBe(2);
  });

  it("the plugin's page changes nothing and requests nothing but itself", async () => {
    context = await browser.newContext();
    const page = await context.newPage();
    const asked: string[] = [];
    page.on("request", (request) => asked.push(`${request.method()} ${request.url()}`));
    await page.goto(url());
    await page.locator("button").click();
    await page.locator("button").click();
    expect(await page.locator("form, input, select, textarea, iframe, object, embed").count()).toBe(0);
    expect(new Set(asked.filter((one) => !one.includes(" data:")))).toEqual(new Set([`GET ${url()}`]));
  });

  it("the plugin's page cannot be framed, and its policy stops an inserted script", async () => {
    const page = await open(url());
    const inserted = `(() => {
      const script = document.createElement("script");
      try { script.textContent = "document.title = 'hacked'"; document.body.append(script); } catch {}
      const image = document.createElement("img");
      image.src = "http://127.0.0.1:1/";
      document.body.append(image);
    })()`;
    await page.evaluate(inserted);
    expect(await page.title()).toBe("Ready · kms-pkcs11");
    await page.setContent(`<iframe src="${url()}"></iframe>`).catch(() => undefined);
    expect(complaints.join("\n")).toMatch(/Content Security Policy|Trusted/);
  });
});

describe("the console", () => {
  let page: Page;
  let consoleContext: BrowserContext;
  const heard: string[] = [];

  beforeAll(async () => {
    consoleContext = await browser.newContext();
    page = await consoleContext.newPage();
    page.on("console", (message) => heard.push(message.text()));
    await page.goto(consoleUrl);
  });

  afterAll(() => consoleContext.close());

  it("the console leaves no token in the address, and no cookie that a script can read", async () => {
    expect(new URL(page.url()).search).toBe("");
    expect(await page.evaluate("document.cookie")).toBe("");
    const [cookie] = await consoleContext.cookies();
    expect(cookie).toMatchObject({ httpOnly: true, sameSite: "Strict" });
  });

  it.each(LOOKS)("the console fits a $name in $colorScheme, and axe finds nothing", async (look) => {
    await requireLook(page, "console", look);
    expect(heard).toEqual([]);
  });

  it("the console marks what the nodes disagree about", async () => {
    expect(await page.locator("h1").innerText()).toBe("1 of 3 nodes does not answer");
    expect(await page.locator(".node .state").allInnerTexts()).toEqual(["ready", "ready", "does not answer"]);
    const differences = await page.locator("section", { hasText: "Differences" }).first().innerText();
    expect(differences).toMatch(/has no standby/);
    expect(await page.locator(".kek.standby .finding").innerText()).toContain("Missing on");
  });

  it("the console refuses the address a second time, and a browser without the cookie", async () => {
    const other = await browser.newContext();
    const stranger = await other.newPage();
    expect((await stranger.goto(consoleUrl))?.status()).toBe(403);
    expect((await stranger.goto(new URL("/", consoleUrl).href))?.status()).toBe(401);
    await other.close();
    await page.reload();
    expect(await page.locator("h1").innerText()).toContain("nodes");
  });

  it("the console ends with Ctrl-C", async () => {
    const ended = once(consoleProcess ?? process, "exit");
    consoleProcess?.kill("SIGINT");
    expect((await ended)[0]).toBe(0);
  });
});
