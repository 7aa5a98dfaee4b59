// Hostile mail, and hostile words in every field, on the open page: nothing runs, nothing is reached, the page goes on.
//
// The same corpus is shown three times: on the page as it is; on the page without the part that takes dead links out,
// which must not matter, because the walls hold alone; and on a page whose walls were taken down, to see that the
// watchers would notice.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, describe, it } from "node:test";

import * as acs from "./acs.mjs";
import { closeAll, control, home, isMarked, openBrowser, openContext, openInbox, openTrap, post } from "./browser.mjs";
import { corpus, fields } from "./corpus.mjs";

const { origin } = new URL(home);
let trap;
let mails;

/** Serves the page with its script and headers changed, and its hash made to fit again. */
async function serveChanged(context, change, changeHeaders = (headers) => headers) {
  await context.route(home, async (route) => {
    const response = await route.fetch();
    const text = await response.text();
    const [, script] = /<script>([^]*)<\/script>\n<\/body>/.exec(text);
    const changed = change(script);
    assert.notEqual(changed, script, "the change found its place");
    const hash = createHash("sha256").update(changed).digest("base64");
    const headers = { ...response.headers() };
    headers["content-security-policy"] = headers["content-security-policy"].replace(/'sha256-[^']+'/, `'sha256-${hash}'`);
    await route.fulfill({ status: 200, headers: changeHeaders(headers), body: text.replace(script, () => changed) });
  });
}

const withoutComfort = (script) => script
  .replace(/const UNWANTED = '[^']*'/, "const UNWANTED = 'nothing-at-all'")
  .replace(/const ACTIVE = \[[^\]]*\]/, "const ACTIVE = []")
  .replace("|| /^on/i.test(attribute.localName)", "");

const withoutWalls = (script) => withoutComfort(script)
  .replace("sandbox: ''", "sandbox: 'allow-scripts allow-same-origin allow-popups allow-forms allow-modals allow-top-navigation'")
  .replace(/const MAIL_POLICY = "[^"]*"/, "const MAIL_POLICY = \"default-src * 'unsafe-inline' data: blob:\"")
  .replace("(await request(`${path}/preview`)).text()", "detail.html");

/**
 * Shows one mail and does with it what a careless reader might. Whether the frame still took its clicks is answered:
 * where a link replaces the frame's document under the pointer, Chromium never says that the click was done.
 */
async function read(page, mail, { newTabs = true } = {}) {
  await page.evaluate((id) => { location.hash = `#/email/${id}`; }, mail.id);
  // By its operation id, for the subjects are hostile and half alike.
  await page.locator("#detail .facts", { hasText: mail.id }).waitFor();
  const frame = page.locator("#panel iframe");
  await frame.waitFor();
  const box = await frame.boundingBox();
  let stuck = false;
  const poke = async (work) => {
    if (stuck) return;
    let timer;
    const late = new Promise((done) => { timer = setTimeout(() => { stuck = true; done(); }, 800); });
    await Promise.race([work(), late]);
    clearTimeout(timer);
  };
  // Without the new tabs only what asks for a hand gets one.
  if (!newTabs && !/px|width=900/.test(mail.html)) return true;
  for (const [x, y] of [[45, 40], [120, 60], [300, 130], [60, 220], [60, 310]]) {
    if (y < box.height) await poke(() => page.mouse.click(box.x + x, box.y + y));
  }
  if (newTabs) await poke(() => page.mouse.click(box.x + 45, box.y + 45, { button: "middle" }));
  if (newTabs) await poke(() => page.mouse.click(box.x + 60, box.y + 40, { modifiers: ["Control"] }));
  for (const key of ["Tab", "Enter", "Tab", "Space"]) await poke(() => page.keyboard.press(key));
  return !stuck;
}

/** The page is whole: it goes to another view and back, by hand and by keyboard. */
async function assertWorks(page) {
  await page.locator("#views [data-view=sms]").click();
  await page.locator("#view-title", { hasText: /^SMS$/ }).waitFor();
  await page.keyboard.press("g");
  await page.keyboard.press("e");
  await page.locator("#view-title", { hasText: /^E-mail$/ }).waitFor();
  assert.equal(new URL(page.url()).origin, origin);
  assert.ok(!(await isMarked(page)), "hostile code left its mark");
}

const strangersIn = (log) => log.filter((text) => text.includes(`:${trap.port}`) || text.includes("trap.test"));

/** Leaves time for what comes late: timers, animations, lazy loading. */
const settle = (page) => page.waitForTimeout(400);

before(async () => {
  trap = await openTrap();
  mails = corpus(`http://127.0.0.1:${trap.port}`, `http://a.trap.test:${trap.port}`);
  // At most ten at a time.
  for (let sent = 0; sent < mails.length; sent += 10) {
    await Promise.all(mails.slice(sent, sent + 10).map(async (mail) => { mail.id = await acs.email(mail); }));
  }
});
after(async () => {
  await closeAll();
  trap.close();
});

describe("hostile mail", () => {
  for (const [what, change] of [["on the page as it is", null], ["with the walls alone", withoutComfort]]) {
    it(`runs nothing and reaches nothing ${what}`, async () => {
      const { browser, close } = await openBrowser();
      const { context, problems } = await openContext(browser, { viewport: { width: 1280, height: 800 } });
      if (change) await serveChanged(context, change);
      let page = await openInbox(context, "#/email");
      const guilty = [];
      for (const mail of mails) {
        // The sandbox does not stop a click that asks for a new tab: that takes the part that is left out here.
        if (!await read(page, mail, { newTabs: change === null })) {
          assert.notEqual(change, null, mail.name);
          context.expectsPage = true;
          page = await openInbox(context, "#/email");
          context.expectsPage = false;
        }
        // Chromium connects ahead where a pointer presses on a link, and asks for nothing: that too is for the other part.
        const hits = trap.hits.splice(0).filter((hit) => change === null || hit !== "connection");
        if (problems.length > 0 || hits.length > 0 || await isMarked(page)) {
          guilty.push(`${mail.name}: ${[...problems.splice(0), ...hits].join("; ")}`);
        }
      }
      await settle(page);
      await assertWorks(page);
      for (const tab of change ? [] : ["Text", "Links", "Source", "Headers", "Recipients", "Files"]) {
        for (const mail of mails.slice(0, 4)) {
          await page.evaluate((id) => { location.hash = `#/email/${id}`; }, mail.id);
          await page.locator("#detail .facts", { hasText: mail.id }).waitFor();
          await page.locator(`[role=tab][data-tab=${tab}]`).click();
        }
      }
      await settle(page);
      assert.ok(!(await isMarked(page)));
      assert.deepEqual([...guilty, ...problems, ...trap.hits], []);
      const strangers = strangersIn(await close());
      if (change === null) assert.deepEqual(strangers, [], "the browser's log of its network names the trap");
      console.log(`${mails.length} hostile mails ${what}: 0 executions, 0 requests${change === null ? ", 0 connections, 0 look-ups" : ""}`);
    });
  }

  it("is no document under any address of the emulator", async () => {
    const { browser, close } = await openBrowser();
    const { context, problems } = await openContext(browser);
    const page = await context.newPage();
    for (const mail of mails) {
      for (const part of ["preview", "source"]) {
        const { headers } = await fetch(`${home}emails/${mail.id}/${part}`);
        assert.equal(headers.get("content-type"), "text/plain; charset=utf-8");
        assert.equal(headers.get("x-content-type-options"), "nosniff");
        assert.match(headers.get("content-security-policy"), /^default-src 'none'; .*sandbox$/);
      }
    }
    for (const mail of mails.filter((_, index) => index % 6 === 0)) {
      await page.goto(`${home}emails/${mail.id}/preview`, { waitUntil: "load" });
      assert.equal(await page.locator("script, img, iframe, link, a").count(), 0, mail.name);
    }
    assert.deepEqual([...problems, ...trap.hits], []);
    assert.deepEqual(strangersIn(await close()), []);
  });

  it("meets every wall, and either of the two main ones alone stops its code", async () => {
    const { browser, close } = await openBrowser();
    const { context } = await openContext(browser);
    const page = await openInbox(context, `#/email/${mails[0].id}`);
    const frame = page.locator("#panel iframe");
    assert.equal(await frame.getAttribute("sandbox"), "");
    assert.match(await frame.getAttribute("srcdoc"), /^<!doctype html><meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'">/);
    const policy = (await fetch(home)).headers.get("content-security-policy");
    for (const wall of [/^default-src 'none'; script-src 'sha256-[^' ]+'; /, / frame-src 'none'; /, / base-uri 'none'; /, / form-action 'none'; /, /frame-ancestors 'none'; /, /require-trusted-types-for 'script'/]) assert.match(policy, wall);
    await context.close();

    const sandboxAlone = (script) => withoutWalls(script).replace(/sandbox: 'allow-[^']*'/, "sandbox: ''");
    const policyAlone = (script) => withoutComfort(script).replace("sandbox: ''", "sandbox: 'allow-scripts allow-same-origin allow-popups allow-forms allow-modals allow-top-navigation'");
    for (const [change, changeHeaders] of [[sandboxAlone, ({ "content-security-policy": _, ...headers }) => headers], [policyAlone, (headers) => headers]]) {
      const one = await openContext(browser);
      await serveChanged(one.context, change, changeHeaders);
      const weak = await openInbox(one.context, "#/email");
      for (const name of ["script", "handlers that fire by themselves", "svg scripts", "quotes that break out"]) {
        await weak.evaluate((id) => { location.hash = `#/email/${id}`; }, mails.find((mail) => mail.name === name).id);
        await weak.locator("#detail .detail-head h2", { hasText: name }).waitFor();
        await weak.locator("#panel iframe").waitFor();
      }
      await settle(weak);
      assert.ok(!(await isMarked(weak)));
      assert.deepEqual(one.problems.filter((problem) => change === policyAlone || /^(binding|console|dialog)/.test(problem)), []);
      await one.context.close();
    }
    await close();
    trap.hits.splice(0);
  });

  it("is noticed at once when the walls are down", async () => {
    const { browser, close } = await openBrowser();
    const noticed = [];
    const chosen = ["script", "handlers that fire by themselves", "images", "link elements", "forms that send themselves"];
    for (const name of chosen) {
      const { context, problems } = await openContext(browser, { viewport: { width: 1280, height: 800 } });
      context.setDefaultTimeout(3000);
      await serveChanged(context, withoutWalls, ({ "content-security-policy": _, ...headers }) => headers);
      const page = await openInbox(context, "#/email");
      await read(page, mails.find((mail) => mail.name === name)).catch(() => {});
      await settle(page).catch(() => {});
      if (problems.length > 0 && trap.hits.length > 0) noticed.push(name);
      trap.hits.splice(0);
      await context.close();
    }
    const named = (await close()).some((text) => text.includes("trap.test"));
    trap.hits.splice(0);
    assert.deepEqual(noticed, chosen);
    assert.ok(named, "the log of the network would have named the trap");
    console.log(`walls down: ${noticed.length} of ${chosen.length} noticed by page and trap`);
  });
});

describe("hostile words", () => {
  it("are text in every field of every view", async () => {
    const words = fields(`http://127.0.0.1:${trap.port}`);
    const [mallory, trent] = [await acs.chatter(words[1].slice(0, 250)), await acs.chatter(words[2])];
    await post("identities", { users: words.map((word) => ({ custom_id: word.slice(0, 200), scopes: ["chat"] })) });
    await Promise.all(words.map(async (word) => {
      await acs.sms("+14255550123", word, { tag: word.slice(0, 60) });
      await post("sms/inbound", { from: "+14255550123", to: "+18005550100", message: word });
      const thread = await acs.thread(word.slice(0, 240), [mallory, trent]);
      await thread.say(mallory, word);
    }));
    const { browser, close } = await openBrowser();
    const { context, problems } = await openContext(browser, { viewport: { width: 1280, height: 800 } });
    const page = await openInbox(context);
    let opened = 0;
    for (const view of ["all", "sms", "chat", "identities", "calls", "events"]) {
      await page.locator(`#views [data-view=${view}]`).click();
      await page.locator("#list .row").first().waitFor();
      const rows = Math.min(await page.locator("#list .row").count(), 8);
      for (let row = 0; row < rows; row += 1) {
        await page.locator("#list .row").nth(row).click();
        await page.locator("#list li.open").waitFor();
        await page.locator("#detail .detail-head").waitFor();
        opened += 1;
      }
    }
    for (const word of words) {
      await page.locator("#search").fill(word);
      await page.evaluate((text) => { location.hash = `#/all/${encodeURIComponent(text)}`; }, word);
    }
    await settle(page);
    await page.locator("#search").fill("");
    await assertWorks(page);
    const foreign = await page.locator("#list img, #list script, #list iframe, #list a, #detail script, #detail img, #list [onerror], #detail [onerror]").count();
    assert.equal(foreign, 0);
    assert.deepEqual([...problems, ...trap.hits], []);
    await close();
    console.log(`${words.length} hostile words in all fields, ${opened} details opened: 0 executions, 0 requests`);
  });

  it("give files plain names, and files are saved, never opened", async () => {
    const names = ["../../up.html", "a\u202egpj.exe", "\"; filename=x.html", "CON", "<img src=x onerror=alert(1)>.svg"];
    const id = await acs.email({
      subject: "files", plainText: "x", to: ["someone@example.com"],
      attachments: names.map((name) => ({ name, contentType: "text/html", contentInBase64: Buffer.from("<script>alert('CANARY')</script>").toString("base64") })),
    });
    const { browser, close } = await openBrowser();
    const { context, problems } = await openContext(browser);
    context.expectsDownload = true;
    const page = await openInbox(context, `#/email/${id}`);
    await page.locator("[role=tab][data-tab=Files]").click();
    const saved = [];
    for (let index = 0; index < names.length; index += 1) {
      const [download] = await Promise.all([page.waitForEvent("download"), page.locator(".files button").nth(index).click()]);
      saved.push(download.suggestedFilename());
      const response = await fetch(`${home}emails/${id}/attachments/${index}`);
      assert.equal(response.headers.get("content-type"), "application/octet-stream");
      assert.match(response.headers.get("content-disposition"), /^attachment; /);
      assert.equal(response.headers.get("x-content-type-options"), "nosniff");
    }
    for (const name of saved) assert.ok(!/[/\\\u202e"<>]|^\.|^CON$/.test(name), name);
    assert.deepEqual(problems, []);
    await close();
  });
});

it("the emulator still answers", async () => {
  assert.ok((await control("status")).counts.email >= mails.length, "nothing was reset by a mail");
});
