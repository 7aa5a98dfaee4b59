// The pictures of the documentation: a day in the life of an emulator, by the official SDKs, and the page in three looks.

import { mkdirSync } from "node:fs";
import { join } from "node:path";

import * as acs from "./acs.mjs";
import { home, openBrowser, post } from "./browser.mjs";

const order = `<!doctype html><html><body style="margin:0;background:#eef2f7;font-family:system-ui,sans-serif;color:#1c2733">
<table role="presentation" width="100%" cellpadding="0" cellspacing="0"><tr><td align="center" style="padding:24px">
<table role="presentation" width="520" cellpadding="0" cellspacing="0" style="background:#fff;border-radius:12px;max-width:100%">
<tr><td style="background:#12624f;border-radius:12px 12px 0 0;padding:22px 28px;color:#fff;font-size:20px;font-weight:700">Contoso Coffee</td></tr>
<tr><td style="padding:28px"><h1 style="margin:0 0 12px;font-size:24px">Thank you, Ada!</h1><p style="margin:0 0 18px;line-height:1.5">Your order <b>#10429</b> is being packed and leaves us this afternoon.</p>
<table width="100%" cellpadding="8" cellspacing="0" style="border-top:1px solid #dde4ec;font-size:15px"><tr><td>Ethiopia Guji, 1&nbsp;kg</td><td align="right">28.00&nbsp;€</td></tr><tr style="background:#f5f8fb"><td>Paper filters, 100</td><td align="right">6.50&nbsp;€</td></tr><tr><td><b>Together</b></td><td align="right"><b>34.50&nbsp;€</b></td></tr></table>
<p style="margin:24px 0 4px"><a href="https://contoso.example/orders/10429?token=3f9c" style="background:#12624f;color:#fff;padding:12px 22px;border-radius:8px;text-decoration:none;display:inline-block">Follow your order</a></p></td></tr></table>
<img src="https://contoso.example/pixel.gif" width="1" height="1" alt=""></td></tr></table></body></html>`;

const pdf = { name: "invoice-10429.pdf", contentType: "application/pdf", contentInBase64: Buffer.alloc(48213, "%PDF").toString("base64") };
await acs.sms("+14255550142", "Contoso: your code is 481516. It is valid for ten minutes.", { enableDeliveryReport: true, tag: "sign-in" });
await acs.email({ subject: "Confirm your address", html: "<p>Hello Grace, <a href='https://contoso.example/confirm'>confirm</a></p>", plainText: "Hello Grace, please confirm your address to finish signing up.", to: ["grace@example.com"] });
await acs.sms(["+14255550143", "+14255550144"], "Your table for two is ready. See you at seven!", { enableDeliveryReport: true, tag: "reservation" });
const [ada, grace, alan] = await Promise.all(["Ada", "Grace", "Alan"].map((name) => acs.chatter(name)));
const older = await acs.thread("Delivery 88-17", [grace, alan]);
await older.say(alan, "The courier is at the gate, code 4417.");
const thread = await acs.thread("Order 10429", [ada, grace, alan]);
await thread.say(grace, "Hi! I ordered the Guji, but my confirmation says Sidamo.");
await thread.say(ada, "Good catch, thank you. I am looking into it.");
await thread.say(ada, "The order itself is right: one kilo of Ethiopia Guji. Only the mail had the wrong name.");
await thread.say(alan, "Fixed the template. The next mail will have it right.");
await thread.say(grace, "Perfect. Looking forward to the coffee ☕");
await post("sms/inbound", { from: "+14255550142", to: "+18005550100", message: "Is my order on its way?" });
await post("identities", { users: [{ custom_id: "barista-7", scopes: ["chat", "voip"] }, { custom_id: "kiosk-berlin", scopes: ["voip"] }] });
await post("faults", { operation: "send_sms", effect: "answer", status: 429, retry_after_seconds: 1, count: 1 });
await acs.sms("+14255550145", "Contoso: your parcel arrives today between 14:00 and 16:00.", { enableDeliveryReport: true, tag: "parcel" });
await post("faults", { operation: "send_email", effect: "answer", status: 503, probability: 0.3 });
const mail = await acs.email({ subject: "Your order #10429 is on its way", html: order, plainText: "Thank you, Ada! Your order #10429 is being packed.", to: [{ address: "ada@example.com", displayName: "Ada" }], cc: ["bookkeeping@contoso.example"], attachments: [pdf], from: "orders@contoso.example", headers: { "x-order": "10429" } });

const { browser, close } = await openBrowser();
const picture = async (name, options, hash, ready) => {
  const context = await browser.newContext({ locale: "en-GB", timezoneId: "UTC", ...options });
  const page = await context.newPage();
  await page.goto(`${home}${hash}`);
  await page.locator("#live[data-live=live]").waitFor();
  await page.locator("#list .row").first().waitFor({ state: "attached" });
  await ready(page);
  await page.evaluate(() => Promise.all(document.getAnimations().map((each) => each.finished.catch(() => {}))));
  mkdirSync(process.env.PICTURES, { recursive: true });
  await page.screenshot({ path: join(process.env.PICTURES, `inbox-${name}.png`) });
  await context.close();
};
const mailShown = (page) => page.frameLocator("#panel iframe").locator("h1").waitFor();
const desk = { width: 1280, height: 800 };
await new Promise((done) => { setTimeout(done, 1500); });
await picture("light", { viewport: desk, colorScheme: "light" }, `#/all/${mail}`, mailShown);
await picture("dark", { viewport: desk, colorScheme: "dark" }, `#/chat/${encodeURIComponent(thread.id)}`, (page) => page.locator(".bubble").nth(4).waitFor());
await picture("phone", { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true, colorScheme: "light" }, "#/all", (page) => page.locator("#list .row").nth(5).waitFor());
await picture("calls", { viewport: desk, colorScheme: "light" }, "#/calls", async (page) => {
  await page.locator("#list .row", { hasText: "fault" }).first().click();
  await page.locator("#detail .card").waitFor();
});
await close();
console.log("pass 4");
