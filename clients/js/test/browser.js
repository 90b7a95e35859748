/**
 * A page in a real Chromium, for tests in Python: one order as JSON on each line of standard input, one answer on each
 * line of standard output.
 *
 * node browser.js CHROMIUM
 */

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const MILLISECONDS = 120_000;
const PAUSE = 20;

/** @typedef {import("playwright-core").Page} Page */
/** @typedef {{method: string, url: string, body: string}} Request */

/** What the page did since it was opened. @type {{requests: Request[], console: string[]}} */
const seen = { requests: [], console: [] };
/** Browsers by the file that is their camera. @type {Map<string, import("playwright-core").Browser>} */
const browsers = new Map();
/** @type {Page} */
let page;

/** @type {Record<string, (given: any) => unknown>} */
const ORDERS = {
  open,
  /** @param {{selector: string, paths: string[]}} given */
  files: ({ selector, paths }) => page.setInputFiles(selector, paths),
  /** @param {{selector: string}} given */
  click: ({ selector }) => page.click(selector),
  /** @param {{key: string}} given */
  press: ({ key }) => page.keyboard.press(key),
  /** @param {{code: string, value?: unknown}} given */
  evaluate: ({ code, value }) => page.evaluate(`(${code})(${JSON.stringify(value ?? null)})`),
  /** @param {{code: string}} given */
  wait: async ({ code }) => {
    const end = Date.now() + MILLISECONDS; // page.waitForFunction would break the page's policy
    while (!(await page.evaluate(code))) {
      if (Date.now() > end) throw new Error(`this did not become true: ${code}`);
      await page.waitForTimeout(PAUSE);
    }
  },
  /** @param {{selector: string, path: string}} given */
  download: async ({ selector, path }) => {
    const [download] = await Promise.all([page.waitForEvent("download"), page.click(selector)]);
    await download.saveAs(path);
  },
  /** @param {{path: string, selector?: string}} given */
  screenshot: async ({ path, selector }) => {
    await (selector ? page.locator(selector).screenshot({ path }) : page.screenshot({ path, fullPage: true }));
  },
  /** @param {object} given */
  media: (given) => page.emulateMedia(given),
  /** @param {{width: number, height: number}} given */
  size: (given) => page.setViewportSize(given),
  axe: () => page.evaluate("axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((n) => n.target).join(' ')}`))"),
  seen: () => seen,
};

/**
 * @param {{url: string, camera?: string, axe?: boolean, keep?: boolean}} given `camera`: a Y4M or MJPEG file that is the
 *   camera; `keep`: whether requests are kept with their bodies
 */
async function open({ url, camera = "", axe = false, keep = true }) {
  await page?.context().close();
  seen.requests = [];
  seen.console = [];
  const browser = browsers.get(camera) ?? (await launch(camera));
  browsers.set(camera, browser);
  page = await browser.newPage({ bypassCSP: axe });
  page.setDefaultTimeout(MILLISECONDS);
  page.on("console", (message) => seen.console.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => seen.console.push(`error: ${error.message}`));
  if (keep) page.on("request", (request) => { // Playwright itself keeps every request that is listened for
    const body = request.postDataBuffer()?.toString("base64") ?? "";
    seen.requests.push({ method: request.method(), url: request.url(), body: JSON.stringify(request.headers()) + body });
  });
  if (axe) await page.addInitScript(await readFile(createRequire(import.meta.url).resolve("axe-core"), "utf8"));
  await page.goto(url);
}

/** @param {string} camera */
function launch(camera) {
  const fake = camera ? [`--use-file-for-fake-video-capture=${camera}`] : [];
  return chromium.launch({
    executablePath: process.argv[2],
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", ...fake],
  });
}

for await (const line of createInterface({ input: process.stdin })) {
  const { order, ...given } = JSON.parse(line);
  let answer;
  try {
    answer = { result: (await ORDERS[order](given)) ?? null };
  } catch (error) {
    answer = { error: /** @type {Error} */ (error).message };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
for (const browser of browsers.values()) await browser.close();
