// Hostile mail, and hostile words in every field, on the open page: nothing runs, nothing is reached, the page goes on.
//
// The same corpus is shown three times: on the page as it is; on the page without the part that takes dead links out,
// which must not matter, because the walls hold alone; and on a page whose walls were taken down, to see that the
// watchers would notice.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, describe, it } from "node:test";

import * as acs from "./acs.mjs";
import { control, home, isMarked, openBrowser, openContext, openInbox, openTrap, post } from "./browser.mjs";
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
  .replace("|| /^on/i.test(name)", "");

const withoutWalls = (script) => withoutComfort(script)
  .replace("sandbox: ''", "sandbox: 'allow-scripts allow-same-origin allow-popups allow-forms allow-modals allow-top-navigation'")
  .replace(/const MAIL_POLICY = "[^"]*"/, "const MAIL_POLICY = \"default-src * 'unsafe-inline' data: blob:\"")
  .replace("(await request(`${path}/preview`)).text()", "detail.html");

/** Shows one mail and does with it what a careless reader might. */
async function read(page, mail) {
  await page.evaluate((id) => { location.hash = `#/email/${id}`; }, mail.id);
  // By its operation id, for the subjects are hostile and half alike.
  await page.locator("#detail .facts", { hasText: mail.id }).waitFor();
  const frame = page.locator("#panel iframe");
  await frame.waitFor();
  const box = await frame.boundingBox();
  for (const [x, y] of [[45, 40], [120, 60], [300, 130], [60, 220], [60, 310], [200, 390]]) {
    if (y < box.height) await page.mouse.click(box.x + x, box.y + y);
  }
  await page.mouse.click(box.x + 45, box.y + 45, { button: "middle" });
  await page.keyboard.down("Control");
  await page.mouse.click(box.x + 60, box.y + 40);
  await page.keyboard.up("Control");
  for (const key of ["Tab", "Enter", "Tab", "Space"]) await page.keyboard.press(key);
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

/** Leaves time for what comes late: timers, animations, lazy loading. */
const settle = (page) => page.waitForTimeout(400);

before(async () => {
  trap = await openTrap();
  mails = corpus(`http://127.0.0.1:${trap.port}`, `http://a.trap.test:${trap.port}`);
  for (const mail of mails) mail.id = await acs.email(mail);
});
after(() => trap.close());

describe("hostile mail", () => {
  for (const [what, change] of [["on the page as it is", null], ["with the walls alone", withoutComfort]]) {
    it(`runs nothing and reaches nothing ${what}`, async () => {
      const { browser, close } = await openBrowser();
      const { context, problems } = await openContext(browser, { viewport: { width: 1280, height: 800 } });
      if (change) await serveChanged(context, change);
      const page = await openInbox(context, "#/email");
      const guilty = [];
      for (const mail of mails) {
        await read(page, mail);
        if (problems.length > 0 || trap.hits.length > 0 || await isMarked(page)) {
          guilty.push(`${mail.name}: ${[...problems.splice(0), ...trap.hits.splice(0)].join("; ")}`);
        }
      }
      await settle(page);
      await assertWorks(page);
      for (const tab of change ? [] : ["Text", "Links", "Source", "Headers", "Recipients", "Files"]) {
        for (const mail of mails.slice(0, 12)) {
          await page.evaluate((id) => { location.hash = `#/email/${id}`; }, mail.id);
          await page.locator("#detail .facts", { hasText: mail.id }).waitFor();
          await page.locator(`[role=tab][data-tab=${tab}]`).click();
        }
      }
      await settle(page);
      assert.ok(!(await isMarked(page)));
      assert.deepEqual([...guilty, ...problems, ...trap.hits], []);
      const strangers = (await close()).filter((text) => text.includes(String(trap.port)) || text.includes("trap.test"));
      assert.deepEqual(strangers, [], "the browser's log of its network names the trap");
      console.log(`${mails.length} hostile mails ${what}: 0 executions, 0 requests, 0 look-ups`);
    });
  }

  it("runs nothing and loads nothing when a preview is opened by itself", async () => {
    const { browser, close } = await openBrowser();
    const { context, problems } = await openContext(browser);
    const page = await context.newPage();
    for (const mail of mails) {
      await page.goto(`${home}emails/${mail.id}/preview`, { waitUntil: "load" });
      assert.deepEqual([...problems, ...trap.hits], [], mail.name);
    }
    await settle(page);
    assert.deepEqual([...problems, ...trap.hits], []);
    const strangers = (await close()).filter((text) => text.includes(String(trap.port)) || text.includes("trap.test"));
    assert.deepEqual(strangers, []);
  });

  it("is noticed at once when the walls are down", async () => {
    const { browser, close } = await openBrowser();
    const noticed = [];
    const chosen = ["script", "handlers that fire by themselves", "links to every target", "images", "css that loads", "link elements", "svg that loads", "forms that send themselves", "frames", "meta refresh"];
    for (const name of chosen) {
      const { context, problems } = await openContext(browser, { viewport: { width: 1280, height: 800 } });
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
    for (const word of words) {
      await acs.sms("+14255550123", word, { tag: word.slice(0, 60) });
      await post("sms/inbound", { from: "+14255550123", to: "+18005550100", message: word });
      await post("identities", { users: [{ custom_id: word.slice(0, 200), scopes: ["chat"] }] });
      const thread = await acs.thread(word.slice(0, 240), [mallory, trent]);
      await thread.say(mallory, word);
    }
    const { browser, close } = await openBrowser();
    const { context, problems } = await openContext(browser, { viewport: { width: 1280, height: 800 } });
    const page = await openInbox(context);
    let opened = 0;
    for (const view of ["all", "sms", "chat", "identities", "calls", "events"]) {
      await page.locator(`#views [data-view=${view}]`).click();
      await page.locator("#list .row").first().waitFor();
      const rows = Math.min(await page.locator("#list .row").count(), 12);
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
