// The official Email SDK for JavaScript. See `judge.js`.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, it } from "node:test";
import {
  Sdk, accessKey, assertDenied, calls, connectionString, control, endpoint, entra, fault, judgeTheSdks, message, messages,
  refused, require, stranger, waitsOut, withAWrongKey,
} from "./judge.js";

const { EmailClient, KnownEmailSendStatus } = require("@azure/communication-email");

const sdk = new Sdk("@azure/communication-email", {
  classes: [EmailClient],
  declarations: ["dist/commonjs/emailClient.d.ts"],
});
const client = (...args) => sdk.watch(new EmailClient(...(args.length > 0 ? args : [connectionString])));

const sender = "DoNotReply@contoso.example.com";
const pixel = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==",
  "base64",
);

const mail = (to = "ada@example.com", more = {}) => ({
  senderAddress: sender,
  content: { subject: "Hello", plainText: "Hello, Ada." },
  recipients: { to: [{ address: to }] },
  ...more,
});
const file = (name, contentType, content, more = {}) => ({
  name,
  contentType,
  contentInBase64: content.toString("base64"),
  ...more,
});
const sent = async (what, options) => {
  const result = await (await client().beginSend(what, options)).pollUntilDone();
  assert.equal(result.status, KnownEmailSendStatus.Succeeded);
  return result;
};

describe("email", () => {
  it("sends and polls to the end", async () => {
    const before = await calls("get_email_operation");
    const poller = await client().beginSend(mail());
    assert.equal(poller.isDone(), false);
    const result = await poller.pollUntilDone();
    assert.equal(result.status, "Succeeded");
    assert.equal(result.error ?? null, null);
    assert.equal(poller.isDone(), true);
    assert.equal(poller.getOperationState().status, "succeeded");
    assert.deepEqual(poller.getResult(), result);
    assert.ok((await calls("get_email_operation")) > before);
    const kept = await message(result.id);
    assert.deepEqual([kept.kind, kept.from, kept.to], ["email", sender, ["ada@example.com"]]);
    assert.deepEqual([kept.subject, kept.text], ["Hello", "Hello, Ada."]);
  });

  it("sends everything a mail can have", async () => {
    const person = (name) => ({ address: `${name.toLowerCase()}@example.com`, displayName: name });
    const text = Buffer.from("Grüße\n");
    const html = '<p>rich <img src="cid:pixel"></p>';
    const { id } = await sent({
      senderAddress: sender,
      content: { subject: "Grüße 👋", plainText: "plain", html },
      recipients: { to: [person("Ada"), person("Bob")], cc: [person("Cleo")], bcc: [person("Dan")] },
      replyTo: [person("Erin")],
      headers: { "X-Campaign": "seven" },
      attachments: [
        file("note.txt", "text/plain", text),
        file("pixel.png", "image/png", pixel, { contentId: "pixel" }),
      ],
      disableUserEngagementTracking: true,
    });
    const kept = await message(id);
    assert.equal(kept.subject, "Grüße 👋");
    assert.deepEqual(kept.to, ["ada", "bob", "cleo", "dan"].map((name) => `${name}@example.com`));
    const keptPerson = (name) => ({ address: `${name.toLowerCase()}@example.com`, display_name: name });
    const { detail } = kept;
    assert.deepEqual(detail.to, [keptPerson("Ada"), keptPerson("Bob")]);
    assert.deepEqual([detail.cc, detail.bcc], [[keptPerson("Cleo")], [keptPerson("Dan")]]);
    assert.deepEqual(detail.reply_to, [keptPerson("Erin")]);
    assert.deepEqual(detail.headers, { "X-Campaign": "seven" });
    assert.deepEqual([detail.plain_text, detail.html, detail.tracking_disabled], ["plain", html, true]);
    assert.deepEqual(
      detail.attachments.map((each) => [each.name, each.content_type, each.content_id, each.size]),
      [["note.txt", "text/plain", null, text.length], ["pixel.png", "image/png", "pixel", pixel.length]],
    );
    for (const [index, content] of [text, pixel].entries()) {
      assert.deepEqual(await control("GET", `emails/${id}/attachments/${index}`), content);
    }
  });

  it("sends without to", () =>
    sent(mail("", { recipients: { cc: [{ address: "c@example.com" }], bcc: [{ address: "d@example.com" }] } })));

  it("sends under the operation id of the caller and only once", async () => {
    const [operationId, to] = [randomUUID(), `${randomUUID()}@example.com`];
    for (let turn = 0; turn < 2; turn += 1) assert.equal((await sent(mail(to), { operationId })).id, operationId);
    assert.deepEqual((await messages({ kind: "email", to })).map((each) => each.id), [operationId]);
  });

  it("sends twice when it is called twice", async () => {
    const to = `${randomUUID()}@example.com`;
    const ids = [(await sent(mail(to))).id, (await sent(mail(to))).id];
    assert.deepEqual((await messages({ kind: "email", to })).map((each) => each.id), ids.reverse());
  });

  it("goes on with a poller that was put aside", async () => {
    const to = `${randomUUID()}@example.com`;
    const resumeFrom = (await client().beginSend(mail(to))).toString();
    const { id } = await sent(mail(to), { resumeFrom });
    assert.deepEqual((await messages({ kind: "email", to })).map((each) => each.id), [id]);
  });

  // An address that stands for an outcome: see docs/emulator-magic.md.
  it("fails when all recipients are suppressed", async () => {
    const poller = await client().beginSend(mail("suppressed@magic.example.net"));
    await assert.rejects(
      () => poller.pollUntilDone(),
      (error) => /suppressed/i.test(error.message),
    );
    assert.equal(poller.getOperationState().status, "failed");
    sdk.note("EmailClient.beginSend", "failed");
  });

  const refusedAs = async (status, code, what) => {
    const seen = await refused(status, () => client().beginSend(what));
    assert.deepEqual([seen.code, seen.header("x-ms-error-code")], [code, code]);
    return seen;
  };

  it("refuses a sender whose domain is not linked", async () => {
    const from = { senderAddress: "DoNotReply@not-linked.example.net" };
    const { message: words } = await refusedAs(404, "DomainNotLinked", mail("ada@example.com", from));
    assert.equal(words, "The specified sender domain has not been linked.");
  });

  it("refuses what is no address", () => refusedAs(400, "InvalidEmailAddress", mail("nobody")));

  it("sends to fifty and refuses one more", async () => {
    const people = Array.from({ length: 51 }, (_, n) => ({ address: `person${n}@example.com` }));
    const recipients = { to: people.slice(0, 20), cc: people.slice(20, 40), bcc: people.slice(40) };
    await refused([400, 413], () => client().beginSend(mail("", { recipients })));
    recipients.bcc.pop();
    await sent(mail("", { recipients }));
  });

  it("refuses more than ten megabytes", async () => {
    const attachments = [file("large.bin", "application/octet-stream", Buffer.alloc(8 * 1024 * 1024))];
    await refused([400, 413], () => client().beginSend(mail("ada@example.com", { attachments })));
  });

  it("denies a wrong key", () => assertDenied(() => client(withAWrongKey).beginSend(mail())));

  it("takes a key credential", async () => {
    const poller = await client(endpoint, { key: accessKey }).beginSend(mail());
    assert.equal((await poller.pollUntilDone()).status, "Succeeded");
  });

  it("takes an Entra credential with the role", async () => {
    const poller = await client(endpoint, entra()).beginSend(mail());
    assert.equal((await poller.pollUntilDone()).status, "Succeeded");
    await assertDenied(() => client(endpoint, entra(stranger)).beginSend(mail()));
  });

  it("waits out a 429", async () => {
    const poller = await waitsOut("send_email", () => client().beginSend(mail()));
    await fault("get_email_operation", 429, { retry_after_seconds: 1 });
    assert.equal((await poller.pollUntilDone()).status, "Succeeded");
  });

  it("a 429 that lasts reaches the caller", async () => {
    const impatient = client(connectionString, { retryOptions: { maxRetries: 0 } });
    await fault("send_email", 429, { retry_after_seconds: 30 });
    assert.equal((await refused(429, () => impatient.beginSend(mail()))).code, "TooManyRequests");
  });
});

judgeTheSdks();
