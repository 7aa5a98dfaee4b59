// The official Chat SDK for JavaScript: whom chat refuses, and when there is too much. Loaded by `chat.test.js`.

import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";
import { Person, communicationError, identity, noEntry, twoInAThread } from "./chatting.js";
import { advance, calls, fault, meet, refused, require, rotate, waitsOut } from "./judge.js";

const { CommunicationIdentityClient } = require("@azure/communication-identity");

describe("chat refusals", () => {
  let ada, bob, id, ofAda, ofBob;
  beforeEach(async () => ({ ada, bob, id, ofAda, ofBob } = await twoInAThread()));

  const assertShutOut = async (person) => {
    await refused(noEntry, () => person.client().listChatThreads().all());
    await refused(noEntry, () => person.thread(id).getProperties());
    await refused(noEntry, () => person.client().createChatThread({ topic: "No" }));
  };

  it("refuses who is not in the thread", async () => {
    const ofCarol = (await Person.of()).thread(id);
    const chatMessageId = (await ofAda.sendMessage({ content: "private" })).id;
    for (const call of [
      () => ofCarol.getProperties(),
      () => ofCarol.updateTopic("Mine"),
      () => ofCarol.updateProperties({ topic: "Mine" }),
      () => ofCarol.sendMessage({ content: "hello" }),
      () => ofCarol.getMessage(chatMessageId),
      () => ofCarol.listMessages().all(),
      () => ofCarol.listParticipants().all(),
      () => ofCarol.listReadReceipts().all(),
      () => ofCarol.sendReadReceipt({ chatMessageId }),
      () => ofCarol.sendTypingNotification(),
      () => ofCarol.removeParticipant(bob.user),
      () => ofCarol.addParticipants({ participants: [ada.participant()] }),
    ]) {
      const { Message } = await communicationError(403, "Forbidden", call);
      assert.equal(Message, "The initiator doesn't have the permission to perform the requested operation.");
    }
  });

  it("knows no thread that never was", async () => {
    for (const threadId of [`19:${"A".repeat(44)}@thread.v2`, "no-thread"]) {
      await communicationError(404, "NotFound", () => ada.thread(threadId).getProperties());
      await communicationError(404, "NotFound", () => ada.thread(threadId).sendMessage({ content: "hello" }));
    }
  });

  for (const scope of ["voip", "voip.join"]) {
    it(`refuses a token for ${scope} alone`, async () => {
      const person = await Person.of([scope]);
      await ofAda.addParticipants({ participants: [person.participant()] });
      await assertShutOut(person);
    });
  }

  for (const [scope, mayAdd] of [["chat.join", true], ["chat.join.limited", false]]) {
    it(`lets ${scope} take part but not found threads`, async () => {
      const person = await Person.of([scope]);
      await ofAda.addParticipants({ participants: [person.participant()] });
      const thread = person.thread(id);
      assert.ok((await thread.sendMessage({ content: "I may write" })).id);
      await refused(noEntry, () => person.client().createChatThread({ topic: "No" }));
      await refused(noEntry, () => thread.updateTopic("No"));
      await refused(noEntry, () => person.client().deleteChatThread(id));
      const add = async () => thread.addParticipants({ participants: [(await Person.of()).participant()] });
      if (mayAdd) assert.equal((await add()).invalidParticipants, undefined);
      else await refused(noEntry, add);
    });
  }

  it("refuses what is no token of this resource", async () => {
    const [header, , signature] = ada.token.split(".");
    ada.token = [header, bob.token.split(".")[1], signature].join(".");
    await assertShutOut(ada);
  });

  it("refuses a revoked token and takes the next", async () => {
    await identity.revokeTokens(ada.user);
    await assertShutOut(ada);
    const again = (await Person.of(["chat"], ada.user)).thread(id);
    assert.equal((await again.getProperties()).topic, "Lunch");
  });

  it("refuses the token of a deleted user", async () => {
    await identity.deleteUser(bob.user);
    await assertShutOut(bob);
    assert.equal((await ofAda.getProperties()).topic, "Lunch");
  });

  it("refuses the tokens of a key that was rotated", async () => {
    const bySecond = new CommunicationIdentityClient(await rotate("secondary"));
    const carol = await Person.of(["chat"], undefined, bySecond);
    assert.deepEqual(await carol.client().listChatThreads().all(), []);
    await rotate("secondary");
    await assertShutOut(carol);
    assert.equal((await ofAda.getProperties()).topic, "Lunch", "tokens of the other key live on");
  });

  it("refuses an expired token", async () => {
    // The emulator's clock jumps; the SDK, by its own clock, still takes the token for good.
    assert.equal((await ofAda.getProperties()).topic, "Lunch");
    await advance("24h");
    await advance("1m");
    await assertShutOut(ada);
    const again = (await Person.of(["chat"], ada.user)).thread(id);
    assert.equal((await again.getProperties()).topic, "Lunch");
  });

  it("waits out a 429", async () => {
    const { id: messageId } = await waitsOut("send_message", () => ofAda.sendMessage({ content: "patient" }));
    assert.equal((await ofBob.getMessage(messageId)).content.message, "patient");
    await waitsOut("list_messages", () => ofBob.listMessages().all());
  });

  it("gets over a dropped connection and a slow answer", async () => {
    const before = await calls("list_threads");
    await meet("list_threads", { effect: "drop" });
    assert.deepEqual((await ada.client().listChatThreads().all()).map((each) => each.id), [id]);
    assert.equal((await calls("list_threads")) - before, 2);
    await meet("get_thread", { effect: "slow_body", over_ms: 500 });
    const start = performance.now();
    assert.equal((await ofAda.getProperties()).topic, "Lunch");
    assert.ok(performance.now() - start >= 400);
  });

  it("a 429 that lasts reaches the caller", async () => {
    await fault("list_threads", 429, { retry_after_seconds: 30 });
    const impatient = ada.client({ retryOptions: { maxRetries: 0 } });
    assert.equal((await refused(429, () => impatient.listChatThreads().all())).header("retry-after"), "30");
  });
});
