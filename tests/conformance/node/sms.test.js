// The official SMS SDK for JavaScript. See `judge.js`.

import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";
import {
  Sdk, accessKey, assertDenied, calls, connectionString, endpoint, entra, fault, judgeTheSdks, message, messages, refused,
  require, stranger, waitFor, waitsOut, withAWrongKey,
} from "./judge.js";

const { SmsClient } = require("@azure/communication-sms");

const sdk = new Sdk("@azure/communication-sms", {
  classes: [SmsClient],
  declarations: ["types/communication-sms.d.ts"],
});
const client = (...args) => sdk.watch(new SmsClient(...(args.length > 0 ? args : [connectionString])));

const owned = "+18005550100";

describe("sms", () => {
  // Each case has recipients of its own, so that it finds its messages again.
  let area = 300;
  beforeEach(() => (area += 1));
  const number = (last = 0) => `+1${area}555${String(last).padStart(4, "0")}`;
  const send = (text, to = [number()], from = owned, options = {}) =>
    client().send({ from, to, message: text }, options);

  const assertAccepted = (result, to) => {
    assert.deepEqual([result.to, result.httpStatusCode, result.successful], [to, 202, true]);
    assert.ok(result.messageId);
    assert.equal(result.errorMessage, undefined);
  };

  it("sends to one number", async () => {
    const results = await send("Grüße 👋");
    assert.equal(results.length, 1);
    assertAccepted(results[0], number());
    const kept = await message(results[0].messageId);
    assert.deepEqual([kept.kind, kept.direction, kept.from], ["sms", "outbound", owned]);
    assert.deepEqual([kept.to, kept.text], [[number()], "Grüße 👋"]);
  });

  it("answers for each recipient in order and sends to the good ones", async () => {
    const to = [number(1), "+15550000000", number(2), "+1425555012345"];
    const results = await send("to several", to);
    assert.deepEqual(results.map((result) => result.to), to);
    for (const index of [0, 2]) assertAccepted(results[index], to[index]);
    for (const index of [1, 3]) {
      const { httpStatusCode, successful, errorMessage, messageId } = results[index];
      assert.deepEqual([httpStatusCode, successful, messageId], [400, false, undefined]);
      assert.equal(errorMessage, "Invalid To phone number format.");
    }
    const sent = await Promise.all(to.map(async (each) => (await messages({ kind: "sms", to: each })).length));
    assert.deepEqual(sent, [1, 0, 1, 0]);
  });

  it("reports delivery with the tag", async () => {
    const options = { enableDeliveryReport: true, tag: "campaign 7" };
    const [result] = await send("tagged", [number()], owned, options);
    assertAccepted(result, number());
    const [kept] = await waitFor({ kind: "sms", to: number(), status: "Delivered" });
    assert.equal(kept.tag, "campaign 7");
    assert.equal((await message(result.messageId)).detail.delivery_report, true);
  });

  // These two numbers stand for an outcome: see docs/emulator-magic.md.
  it("hears of a message that cannot be delivered by its report alone", async () => {
    const to = "+12065550104";
    const [result] = await send("lost", [to], owned, { enableDeliveryReport: true });
    assertAccepted(result, to);
    const kept = await waitFor({ kind: "sms", to, status: "Failed" });
    assert.ok(kept.some((each) => each.id === result.messageId));
  });

  it("answers 503 for a recipient it cannot take now", async () => {
    const [result] = await send("later", ["+12065550133"]);
    assert.deepEqual([result.httpStatusCode, result.successful], [503, false]);
    assert.equal(result.errorMessage, "ServiceUnavailable");
  });

  it("sends from a short code and a name", async () => {
    for (const from of ["50505", "Contoso"]) {
      const [result] = await send("hello", [number()], from);
      assertAccepted(result, number());
      assert.equal((await message(result.messageId)).from, from);
    }
  });

  it("sends the same text twice when it is called twice", async () => {
    const ids = [(await send("again"))[0].messageId, (await send("again"))[0].messageId];
    assert.notEqual(ids[0], ids[1]);
    assert.equal((await messages({ kind: "sms", to: number() })).length, 2);
  });

  it("sends once when the SDK repeats the request", async () => {
    const before = await calls("send_sms");
    await fault("send_sms", 503, { retry_after_seconds: 1, commit: "after" });
    const [result] = await send("once");
    assertAccepted(result, number());
    assert.equal((await calls("send_sms")) - before, 2);
    const kept = await messages({ kind: "sms", to: number() });
    assert.deepEqual(kept.map((each) => each.id), [result.messageId]);
  });

  it("refuses a sender the resource does not own", async () => {
    for (const from of ["+18005550199", "+15550000000", "Fabrikam"]) {
      const { body } = await refused(401, () => send("hello", [number()], from));
      assert.equal(JSON.parse(body).error.code, "Unauthorized");
    }
    assert.deepEqual(await messages({ kind: "sms", to: number() }), []);
  });

  it("refuses a malformed sender", async () => {
    const { body } = await refused(400, () => send("hello", [number()], "+1425555012345"));
    assert.match(body, /phone number format/);
  });

  it("refuses a recipient with letters", () => refused(400, () => send("hello", ["Ad155500000000000"])));

  it("sends to a hundred and refuses one more", async () => {
    const to = Array.from({ length: 101 }, (_, last) => number(last));
    await refused(400, () => send("hello", to));
    const results = await send("hello", to.slice(0, 100));
    assert.deepEqual(results.map((result) => result.to), to.slice(0, 100));
    assert.ok(results.every((result) => result.successful));
  });

  it("sends 2048 characters and refuses one more", async () => {
    await refused(400, () => send("x".repeat(2049)));
    assertAccepted((await send("x".repeat(2048)))[0], number());
  });

  it("denies a wrong key", () =>
    assertDenied(() => client(withAWrongKey).send({ from: owned, to: [number()], message: "hello" })));

  it("takes a key credential", async () => {
    const by = client(endpoint, { key: accessKey });
    assertAccepted((await by.send({ from: owned, to: [number()], message: "hello" }))[0], number());
  });

  it("takes an Entra credential with the role", async () => {
    const by = (credential) => client(endpoint, credential).send({ from: owned, to: [number()], message: "hello" });
    assertAccepted((await by(entra()))[0], number());
    await assertDenied(() => by(entra(stranger)));
  });

  it("waits out a 429", async () => {
    const [result] = await waitsOut("send_sms", () => send("patient"));
    assertAccepted(result, number());
  });

  it("a 429 that lasts reaches the caller", async () => {
    const impatient = client(connectionString, { retryOptions: { maxRetries: 0 } });
    await fault("send_sms", 429, { retry_after_seconds: 30 });
    const call = () => impatient.send({ from: owned, to: [number()], message: "impatient" });
    assert.equal((await refused(429, call)).header("retry-after"), "30");
  });
});

judgeTheSdks();
