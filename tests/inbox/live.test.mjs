// What official SDKs send shows on the open page by itself, within a second; and the page says so when the emulator goes.

import assert from "node:assert/strict";
import { createServer, connect } from "node:net";
import { after, before, describe, it } from "node:test";

import * as acs from "./acs.mjs";
import { closeAll, control, home, openBrowser, openContext, openInbox, post } from "./browser.mjs";

/** A picture of one pixel. */
const PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
let browser;
before(async () => { ({ browser } = await openBrowser()); });
after(closeAll);

/** Milliseconds from the SDK's call until the page shows it, and of these the ones after the SDK had its answer. */
async function timed(page, selector, text, send) {
  const begun = performance.now();
  let answered = 0;
  const shown = page.locator(selector, { hasText: text }).first().waitFor({ timeout: 5000 }).then(() => performance.now());
  const sent = await send();
  answered = performance.now();
  return { sent, total: Math.round((await shown) - begun), after: Math.max(0, Math.round((await shown) - answered)) };
}

describe("the open page", () => {
  it("shows an SMS, a mail with a file and a chat message within a second of being sent", async () => {
    const { context, problems } = await openContext(browser, { viewport: { width: 1280, height: 800 } });
    const people = [await acs.chatter("Ada"), await acs.chatter("Grace")];
    const thread = await acs.thread("Orders", people);
    const page = await openInbox(context);
    await page.evaluate(() => { window.sameDocument = true; });
    const figures = {
      sms: await timed(page, "#list .row", "Your code is 4711", () => acs.sms("+14255550123", "Your code is 4711", { enableDeliveryReport: true, tag: "login" })),
      email: await timed(page, "#list .row", "Your invoice", () => acs.email({
        subject: "Your invoice", html: "<h1>Thank you</h1><p>It is <b>attached</b>.</p><img src='cid:logo'>", plainText: "Thank you", to: ["ada@example.com"],
        attachments: [{ name: "invoice.pdf", contentType: "application/pdf", contentInBase64: Buffer.from("%PDF").toString("base64") }, { name: "logo.png", contentType: "image/png", contentId: "logo", contentInBase64: PIXEL }],
      })),
      chat: await timed(page, "#list .row", "Where is my order?", () => thread.say(people[1], "Where is my order?")),
    };
    for (const [kind, { total, after: later }] of Object.entries(figures)) {
      console.log(`${kind}: on the page ${total} ms after the call, ${later} ms after the SDK's answer`);
      assert.ok(later < 1000, `${kind} took ${later} ms`);
    }
    assert.ok(await page.evaluate(() => window.sameDocument), "without a reload");

    await page.locator("#list .row", { hasText: "Your invoice" }).click();
    await page.frameLocator("#panel iframe").locator("h1", { hasText: "Thank you" }).waitFor();
    assert.equal(await page.frameLocator("#panel iframe").locator("img").evaluate((image) => image.naturalWidth), 1, "its own picture is in place");
    await page.locator("[role=tab][data-tab=Files]").click();
    context.expectsDownload = true;
    const [download] = await Promise.all([page.waitForEvent("download"), page.locator(".files button").first().click()]);
    assert.equal(download.suggestedFilename(), "invoice.pdf");

    await page.locator("#list .row", { hasText: "Where is my order?" }).click();
    await page.locator(".talk .bubble", { hasText: "Where is my order?" }).waitFor();
    await thread.say(people[0], "On its way");
    await page.locator(".talk .bubble", { hasText: "On its way" }).waitFor();
    assert.deepEqual(await page.locator(".talk .author").allTextContents(), ["Grace", "Ada"]);

    await page.locator("#list .row", { hasText: "Your code is 4711" }).click();
    await page.locator("#detail .chip", { hasText: "Delivered" }).first().waitFor();
    await page.locator("#detail", { hasText: "GSM-7" }).waitFor();
    assert.deepEqual(problems, []);
    await context.close();
  });

  it("does the small actions: an inbound SMS, the clock, faults, the reset", async () => {
    const { context, problems } = await openContext(browser, { viewport: { width: 1280, height: 800 } });
    const page = await openInbox(context, "#/sms");
    const dialog = page.locator("#dialog");
    await page.locator("#receive").click();
    await dialog.locator("[name=message]").fill("STOP");
    await dialog.locator("[type=submit]").click();
    await page.locator("#list .row", { hasText: "inbound" }).first().waitFor();

    await page.locator("#move-clock").click();
    await dialog.locator("button", { hasText: "12 hours" }).click();
    await page.locator("#ahead", { hasText: "12 h" }).waitFor();

    await page.locator("#add-fault").click();
    await dialog.locator("[name=operation]").selectOption("send_sms");
    await dialog.locator("[name=status]").fill("400");
    await dialog.locator("[type=submit]").click();
    await page.locator("#views [data-view=calls]").click();
    await page.locator(".faults li", { hasText: "send_sms" }).waitFor();
    await assert.rejects(acs.sms("+14255550123", "refused"));
    await page.locator("#list .row .chip", { hasText: "fault" }).first().waitFor();
    await post("faults", { operation: "send_email", effect: "drop" });
    await page.locator(".faults button", { hasText: "Clear all" }).click();
    await page.locator(".faults").waitFor({ state: "detached" });
    assert.deepEqual((await control("faults")).faults, []);

    await page.locator("#reset").click();
    await dialog.locator("button", { hasText: "Cancel" }).click();
    assert.ok((await control("status")).counts.sms > 0, "asked first");
    await page.locator("#reset").click();
    await dialog.locator("[type=submit]").click();
    await page.locator("#views [data-view=all]").click();
    await page.locator("#empty:not([hidden])").waitFor();
    assert.equal((await control("status")).counts.sms, 0);
    assert.deepEqual(problems, []);
    await context.close();
  });

  it("says when the emulator is gone and goes on when it is back; without a stream it asks", async () => {
    // A gate before the emulator that can be shut.
    const target = new URL(home);
    const sockets = new Set();
    let open = true;
    const gate = createServer((socket) => {
      if (!open) { socket.destroy(); return; }
      const onward = connect(Number(target.port), target.hostname);
      for (const [one, other] of [[socket, onward], [onward, socket]]) {
        sockets.add(one);
        one.pipe(other);
        one.on("error", () => other.destroy());
        one.on("close", () => { sockets.delete(one); other.destroy(); });
      }
    });
    await new Promise((done) => { gate.listen(0, "127.0.0.1", done); });
    const url = `http://127.0.0.1:${gate.address().port}/_emulator/`;
    const context = await browser.newContext();
    const page = await openInbox(context, "", url);
    open = false;
    for (const socket of sockets) socket.destroy();
    await page.locator("#live[data-live=gone]").waitFor();
    await acs.sms("+14255550123", "While you were away");
    open = true;
    await page.locator("#live[data-live=live]").waitFor();
    await page.locator("#list .row", { hasText: "While you were away" }).waitFor();
    await context.close();

    const polling = await browser.newContext();
    await polling.route("**/stream", (route) => route.fulfill({ status: 404, body: "{}" }));
    const other = await polling.newPage();
    await other.goto(url);
    await other.locator("#live[data-live=polling]").waitFor();
    await acs.sms("+14255550123", "Found by asking");
    await other.locator("#list .row", { hasText: "Found by asking" }).waitFor();
    await polling.close();
    gate.close();
  });
});
