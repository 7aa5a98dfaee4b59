// The official Chat SDK for JavaScript: messages, receipts and typing. Loaded by `chat.test.js`.

import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";
import { Person, communicationError, idOf, twoInAThread } from "./chatting.js";
import { advance, calls, messages, refused } from "./judge.js";

describe("chat messages", () => {
  let ada, bob, id, ofAda, ofBob;
  beforeEach(async () => ({ ada, bob, id, ofAda, ofBob } = await twoInAThread()));

  const send = async (content = "hello", options = {}) => (await ofAda.sendMessage({ content }, options)).id;
  const texts = (list) => list.filter((each) => each.type === "text").map((each) => each.content.message);

  it("sends and reads a message", async () => {
    const messageId = await send("Grüße 👋", { senderDisplayName: "Ada", metadata: { mood: "good" } });
    const read = await ofBob.getMessage(messageId);
    assert.deepEqual([read.id, read.type, read.content.message], [messageId, "text", "Grüße 👋"]);
    assert.deepEqual(read.sender, { kind: "communicationUser", communicationUserId: ada.id });
    assert.deepEqual([read.senderDisplayName, { ...read.metadata }], ["Ada", { mood: "good" }]);
    assert.deepEqual([read.version, read.sequenceId], [messageId, "3"]);
    assert.deepEqual([read.editedOn, read.deletedOn], [undefined, undefined]);
    assert.equal(read.createdOn.getMilliseconds(), 0);
    assert.ok(Math.abs(read.createdOn.getTime() - Number(messageId)) < 2000);
  });

  it("sends html", async () => {
    const read = await ofBob.getMessage(await send("<b>hi</b>", { type: "html" }));
    assert.deepEqual([read.type, read.content.message, read.senderDisplayName], ["html", "<b>hi</b>", ""]);
  });

  it("shows the emulator's inbox what was sent", async () => {
    const messageId = await send("for the inbox");
    const [kept] = await messages({ kind: "chat", thread: id, contains: "for the inbox" });
    assert.deepEqual([kept.id, kept.from, kept.subject], [`${id}/${messageId}`, ada.id, "Lunch"]);
  });

  it("lists messages newest first, page by page", async () => {
    const sent = [];
    for (let number = 0; number < 23; number += 1) sent.push(await send(`message ${number}`));
    const pages = await ofBob.listMessages({ maxPageSize: 10 }).byPage();
    assert.deepEqual(pages.map((page) => page.length), [10, 10, 5]);
    assert.deepEqual(pages.flat().slice(0, 23).map((each) => each.id), sent.reverse());
    const sequence = Array.from({ length: 25 }, (_, index) => String(25 - index));
    assert.deepEqual(pages.flat().map((each) => each.sequenceId), sequence);
    assert.equal((await ofBob.listMessages().all()).length, 25);
  });

  it("lists ten messages to a page if nobody says", async () => {
    for (let number = 0; number < 9; number += 1) await send(`message ${number}`);
    assert.deepEqual((await ofBob.listMessages().byPage()).map((page) => page.length), [10, 1]);
  });

  it("lists messages since a time", async () => {
    await send("early");
    await advance("2h");
    const late = await ofAda.getMessage(await send("late"));
    const startTime = new Date(late.createdOn.getTime() - 3_600_000);
    assert.deepEqual(texts(await ofAda.listMessages({ startTime }).all()), ["late"]);
    assert.deepEqual(texts(await ofAda.listMessages().all()), ["late", "early"]);
  });

  it("writes system messages as the thread changes", async () => {
    const carol = await Person.of();
    await ofAda.updateTopic("Dinner");
    await ofAda.addParticipants({ participants: [carol.participant("Carol")] });
    await ofBob.removeParticipant(carol.user);
    const [began, named, renamed, added, removed] = (await ofAda.listMessages().all()).reverse();
    assert.deepEqual(
      [began, named, renamed, added, removed].map((each) => each.type),
      ["participantAdded", "topicUpdated", "topicUpdated", "participantAdded", "participantRemoved"],
    );
    assert.deepEqual(began.content.participants.map(idOf).sort(), [ada.id, bob.id].sort());
    assert.deepEqual([named.content.topic, renamed.content.topic], ["Lunch", "Dinner"]);
    for (const [each, by] of [[began, ada], [added, ada], [removed, bob]]) {
      assert.equal(each.content.initiator.communicationUserId, by.id);
      assert.equal(each.sender, undefined);
    }
    for (const each of [added, removed]) assert.deepEqual(each.content.participants.map(idOf), [carol.id]);
    assert.equal(added.content.participants[0].displayName, "Carol");
  });

  it("edits a message", async () => {
    const first = await send("frist", { metadata: { a: "1", b: "2" } });
    const other = await send("other");
    assert.equal(await ofAda.updateMessage(first, { content: "first", metadata: { a: "3" } }), undefined);
    const read = await ofBob.getMessage(first);
    assert.deepEqual([read.content.message, { ...read.metadata }], ["first", { a: "3" }]);
    assert.ok(read.editedOn);
    assert.notEqual(read.version, first);
    const newest = (await ofBob.listMessages().all()).slice(0, 2).map((each) => each.id);
    assert.deepEqual(newest, [first, other], "an edit moves it to the front");
    assert.equal((await ofBob.getMessage(other)).editedOn, undefined);
  });

  it("edits the text and leaves the metadata", async () => {
    const messageId = await send("frist", { metadata: { a: "1" } });
    await ofAda.updateMessage(messageId, { content: "first" });
    const read = await ofBob.getMessage(messageId);
    assert.deepEqual([read.content.message, { ...read.metadata }], ["first", { a: "1" }]);
  });

  it("edits the metadata and leaves the text", async () => {
    const messageId = await send("as it was", { metadata: { a: "1" } });
    await ofAda.updateMessage(messageId, { metadata: { b: "2" } });
    const read = await ofBob.getMessage(messageId);
    assert.deepEqual([read.content.message, { ...read.metadata }], ["as it was", { b: "2" }]);
  });

  it("shows nobody what was before their share of history", async () => {
    await send("before");
    await advance("2h");
    const late = await ofAda.getMessage(await send("after"));
    const shareHistoryTime = new Date(late.createdOn.getTime() - 3_600_000);
    const [carol, dora] = [await Person.of(), await Person.of()];
    const participants = [carol.participant("Carol", { shareHistoryTime }), dora.participant("Dora")];
    await ofAda.addParticipants({ participants });
    assert.deepEqual(texts(await carol.thread(id).listMessages().all()), ["after"]);
    assert.deepEqual(texts(await dora.thread(id).listMessages().all()), ["after", "before"]);
  });

  it("deletes a message", async () => {
    const [gone, kept] = [await send("gone"), await send("kept")];
    assert.equal(await ofAda.deleteMessage(gone), undefined);
    const read = await ofBob.getMessage(gone);
    assert.ok(read.deletedOn);
    assert.equal(read.content.message, "");
    const listed = await ofBob.listMessages().all();
    assert.ok(!texts(listed).includes("gone"));
    assert.ok(listed.some((each) => each.id === gone));
    assert.equal((await ofBob.getMessage(kept)).deletedOn, undefined);
  });

  it("changes no message of somebody else", async () => {
    const messageId = await send("mine");
    await communicationError(403, "Forbidden", () => ofBob.updateMessage(messageId, { content: "yours" }));
    await communicationError(403, "Forbidden", () => ofBob.deleteMessage(messageId));
    assert.equal((await ofBob.getMessage(messageId)).content.message, "mine");
  });

  it("knows no message that never was", async () => {
    await communicationError(404, "NotFound", () => ofAda.getMessage("1"));
    await communicationError(404, "NotFound", () => ofAda.deleteMessage("1"));
  });

  it("refuses a message over 28 kilobytes", () => refused([400, 413], () => send("x".repeat(28 * 1024 + 1))));

  it("keeps the latest receipt of each reader", async () => {
    const carol = await Person.of();
    await ofAda.addParticipants({ participants: [carol.participant()] });
    const [first, second] = [await send("first"), await send("second")];
    assert.equal(await ofBob.sendReadReceipt({ chatMessageId: first }), undefined);
    await ofBob.sendReadReceipt({ chatMessageId: second });
    await carol.thread(id).sendReadReceipt({ chatMessageId: first });
    const receipts = await ofAda.listReadReceipts().all();
    assert.equal(receipts.length, 2);
    assert.deepEqual(
      new Map(receipts.map((each) => [each.sender.communicationUserId, each.chatMessageId])),
      new Map([[bob.id, second], [carol.id, first]]),
    );
    for (const each of receipts) assert.ok(each.readOn.getTime() + 1000 > Number(first));
    const pages = await ofAda.listReadReceipts({ maxPageSize: 1 }).byPage();
    assert.deepEqual(pages.map((page) => page.length), [1, 1]);
    assert.equal((await ofAda.listReadReceipts({ skip: 1 }).all()).length, 1);
  });

  it("tells of typing, and the SDK not too often", async () => {
    const before = await calls("send_typing");
    assert.equal(await ofBob.sendTypingNotification({ senderDisplayName: "Bob" }), true);
    assert.equal(await ofBob.sendTypingNotification(), false, "within eight seconds the SDK keeps it to itself");
    assert.equal((await calls("send_typing")) - before, 1);
  });
});
