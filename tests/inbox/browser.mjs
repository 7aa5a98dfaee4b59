// A headless Chromium that is watched: what it runs that it should not, and what it asks of anybody but the emulator.
//
// It watches in three ways that do not depend on each other: the browser's own events for every page and frame, the
// browser's log of its network stack (which also has look-ups and connections that no event tells of), and a trap, a
// server that hostile mail points at. Names under trap.test lead to the trap, so that names are covered as well.

import { randomUUID } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const require = createRequire(join(process.env.NODE_MODULES, "resolve-from-here.js"));
const { chromium } = require("playwright-core");

export const home = `${process.env.EMULATOR_URL}/_emulator/`;
/** What hostile code says when it runs. */
export const CANARY = "CANARY";

/** A server on this machine that counts whoever comes, even if only to connect. */
export async function openTrap() {
  const hits = [];
  const server = createServer((request, response) => {
    hits.push(`request ${request.url}`);
    response.writeHead(200, { "content-type": "text/html", "access-control-allow-origin": "*" });
    response.end(`<script>console.log("${CANARY} of the trap")</script>`);
  });
  server.on("connection", () => hits.push("connection"));
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address();
  return { hits, port, close: () => { server.closeAllConnections(); server.close(); } };
}

const open = new Set();
/** Ends the browsers that failed tests have left. */
export const closeAll = () => Promise.all([...open].map((browser) => browser.close()));

export async function openBrowser() {
  const netLog = join(tmpdir(), `acs-broker-inbox-${randomUUID()}.json`);
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", `--log-net-log=${netLog}`,
      "--host-resolver-rules=MAP *.trap.test 127.0.0.1, MAP emulator.test 127.0.0.1",
    ],
  });
  open.add(browser);
  /** Ends the browser and tells every address and name its network stack dealt with. */
  const close = async () => {
    open.delete(browser);
    await browser.close();
    const text = readFileSync(netLog, "utf8");
    rmSync(netLog, { force: true });
    let log;
    try { log = JSON.parse(text); } catch { log = JSON.parse(`${text.trimEnd().replace(/,$/, "")}]}`); }
    const seen = new Set();
    for (const { params = {} } of log.events) {
      for (const value of [params.url, params.host, params.group_id, params.address, params.location]) {
        if (typeof value === "string") seen.add(value);
      }
    }
    return [...seen];
  };
  return { browser, close };
}

/** A context whose pages are watched. `problems` fills with whatever should not have happened. */
export async function openContext(browser, options = {}) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, acceptDownloads: true, ...options });
  context.setDefaultTimeout(20000);
  const problems = [];
  const known = new Set();
  const origin = new URL(process.env.EMULATOR_URL).origin;
  await context.exposeBinding("canary", (_, text) => { problems.push(`binding: ${text}`); });
  await context.addInitScript(() => {
    addEventListener("message", (event) => { if (String(event.data).includes("CANARY")) console.log(`posted: ${event.data}`); });
  });
  // What the browser itself held back, by a policy or because a picture of another origin may not be used so.
  const blocked = (request) => ["csp", "origin", "net::ERR_BLOCKED_BY_CSP"].includes(request.failure()?.errorText);
  const isOurs = (url) => url.startsWith(origin) || url.startsWith(process.env.EMULATOR_TLS_URL) || url.startsWith("http://emulator.test:") || /^$|^(data|blob|about|chrome-error):/.test(url);
  context.on("requestfinished", (request) => { if (!isOurs(request.url())) problems.push(`request: ${request.url()}`); });
  context.on("requestfailed", (request) => {
    if (!isOurs(request.url()) && !blocked(request)) problems.push(`request: ${request.url()} (${request.failure()?.errorText})`);
  });
  context.on("page", (page) => {
    if (known.size > 0 && !context.expectsPage) problems.push(`opened: ${page.url()}`);
    known.add(page);
    page.on("console", (message) => { if (/^(posted: )?CANARY/.test(message.text())) problems.push(`console: ${message.text()}`); });
    page.on("dialog", (dialog) => { problems.push(`dialog: ${dialog.message()}`); dialog.dismiss().catch(() => {}); });
    page.on("pageerror", (error) => problems.push(`error of the page: ${error.message}`));
    page.on("download", (download) => { if (!context.expectsDownload) problems.push(`download: ${download.suggestedFilename()}`); });
    page.on("framenavigated", (frame) => { if (!isOurs(frame.url())) problems.push(`navigated: ${frame.url()}`); });
  });
  return { context, problems };
}

/** Whether hostile code has left its mark on the page itself. */
export const isMarked = (page) =>
  page.evaluate((canary) => document.title.includes(canary) || window.CANARY !== undefined || window.name.includes(canary), CANARY);

export const openInbox = async (context, hash = "", url = home) => {
  const page = await context.newPage();
  await page.goto(`${url}${hash}`);
  await page.locator("#live[data-live=live]").waitFor();
  return page;
};

export const control = async (path, options = {}) => {
  const response = await fetch(`${home}${path}`, options);
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  const text = await response.text();
  return text ? JSON.parse(text) : null;
};

export const post = (path, body) => control(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
