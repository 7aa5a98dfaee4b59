// The official Chat SDK for JavaScript: threads and who is in them. Loaded by `chat.test.js`.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { beforeEach, describe, it } from "node:test";
import { Person, communicationError, idOf, twoInAThread } from "./chatting.js";
import { advance, fault, refused } from "./judge.js";

describe("chat threads", () => {
  let ada, bob, created, id, ofAda, ofBob;
  beforeEach(async () => ({ ada, bob, created, id, ofAda, ofBob } = await twoInAThread()));

  const stranger = () => ada.id.replace(/_[^_]*$/, "_00000000-0000-0000-0000-00000000abcd");
  const participant = (communicationUserId) => ({ id: { communicationUserId } });
  const everybody = async (thread) => (await thread.listParticipants().all()).map(idOf);
  const assertPermissionFailed = (errors, rawId) => {
    assert.equal(errors.length, 1);
    assert.deepEqual([errors[0].code, errors[0].target], ["403", rawId]);
    assert.match(errors[0].message, /^Permissions check failed/);
  };

  it("creates a thread", async () => {
    assert.match(created.chatThread.id, /^19:[A-Za-z0-9_-]{44}@thread\.v2$/);
    assert.equal(created.chatThread.topic, "Lunch");
    assert.deepEqual(created.chatThread.createdBy, { kind: "communicationUser", communicationUserId: ada.id });
    assert.equal(created.chatThread.createdOn.getMilliseconds(), 0);
    assert.equal(created.invalidParticipants, undefined);
    assert.deepEqual(await everybody(ofAda), [ada.id, bob.id]);
    assert.equal(ofAda.threadId, id);
  });

  it("creates a thread with metadata and a retention policy", async () => {
    const retentionPolicy = { kind: "threadCreationDate", deleteThreadAfterDays: 60 };
    const options = { metadata: { project: "seven" }, retentionPolicy };
    const { chatThread } = await ada.client().createChatThread({ topic: "Kept" }, options);
    const read = await ada.thread(chatThread.id).getProperties();
    assert.deepEqual({ ...read.metadata }, { project: "seven" });
    assert.deepEqual({ ...read.retentionPolicy }, retentionPolicy);
  });

  it("creates a thread once under one idempotency token", async () => {
    const create = async (idempotencyToken) =>
      (await ada.client().createChatThread({ topic: "Once" }, { idempotencyToken })).chatThread.id;
    const token = randomUUID();
    const first = await create(token);
    assert.equal(await create(token), first);
    assert.notEqual(await create(randomUUID()), first);
    const listed = await ada.client().listChatThreads().all();
    assert.equal(listed.filter((thread) => thread.topic === "Once").length, 2);
  });

  it("names the creator once", async () => {
    const participants = [bob.participant("Bob"), ada.participant("Ada")];
    const { chatThread } = await ada.client().createChatThread({ topic: "Named" }, { participants });
    assert.deepEqual((await everybody(ada.thread(chatThread.id))).sort(), [ada.id, bob.id].sort());
  });

  it("lets people leave", async () => {
    assert.equal(await ofBob.removeParticipant(bob.user), undefined);
    assert.deepEqual(await everybody(ofAda), [ada.id]);
    const [left] = await ofAda.listMessages().all();
    assert.equal(left.content.initiator.communicationUserId, bob.id);
  });

  it("creates a thread once when the SDK repeats the request", async () => {
    await fault("create_thread", 503, { retry_after_seconds: 1, commit: "after" });
    const carol = await Person.of();
    const { chatThread } = await carol.client().createChatThread({ topic: "Repeated" });
    assert.deepEqual((await carol.client().listChatThreads().all()).map((each) => each.id), [chatThread.id]);
  });

  it("tells who could not be put in a new thread", async () => {
    const participants = [participant(stranger()), bob.participant()];
    const result = await ada.client().createChatThread({ topic: "Who" }, { participants });
    assertPermissionFailed(result.invalidParticipants, stranger());
    assert.deepEqual(await everybody(ada.thread(result.chatThread.id)), [ada.id, bob.id]);
  });

  it("changes topic, metadata and retention", async () => {
    assert.equal(await ofAda.updateTopic("Dinner"), undefined);
    assert.equal((await ofBob.getProperties()).topic, "Dinner");
    await ofAda.updateProperties({ topic: "Supper", metadata: { a: "1", b: "2" } });
    await ofAda.updateProperties({ metadata: { b: "3" }, retentionPolicy: { kind: "none" } });
    const read = await ofBob.getProperties();
    assert.equal(read.topic, "Supper");
    assert.deepEqual({ ...read.metadata }, { a: "1", b: "3" }, "metadata of a thread is merged");
    assert.deepEqual({ ...read.retentionPolicy }, { kind: "none" });
    assert.equal(read.createdBy.communicationUserId, ada.id);
    assert.deepEqual(read.createdOn, created.chatThread.createdOn);
  });

  it("lists threads page by page", async () => {
    const carol = await Person.of();
    const made = [];
    for (let number = 0; number < 5; number += 1) {
      made.push((await carol.client().createChatThread({ topic: `Topic ${number}` })).chatThread.id);
    }
    const pages = await carol.client().listChatThreads({ maxPageSize: 2 }).byPage();
    assert.deepEqual(pages.map((page) => page.length), [2, 2, 1]);
    assert.deepEqual(pages.flat().map((thread) => thread.id).sort(), made.sort());
    assert.equal((await carol.client().listChatThreads().all()).length, 5);
  });

  it("lists a thread for everybody in it", async () => {
    for (const person of [ada, bob]) {
      const listed = await person.client().listChatThreads().all();
      assert.deepEqual(listed.map((thread) => [thread.id, thread.topic]), [[id, "Lunch"]]);
    }
    assert.deepEqual(await (await Person.of()).client().listChatThreads().all(), []);
  });

  it("lists threads since a time", async () => {
    await advance("2h");
    const { chatThread: late } = await ada.client().createChatThread({ topic: "Late" });
    const startTime = new Date(late.createdOn.getTime() - 3_600_000);
    const listed = await ada.client().listChatThreads({ startTime }).all();
    assert.deepEqual(listed.map((each) => each.id), [late.id]);
  });

  it("lists when the last message came", async () => {
    const message = await ofBob.getMessage((await ofBob.sendMessage({ content: "hello" })).id);
    const [listed] = await ada.client().listChatThreads().all();
    assert.deepEqual(listed.lastMessageReceivedOn, message.createdOn);
  });

  it("deletes a thread and does not mind a second time", async () => {
    assert.equal(await ada.client().deleteChatThread(id), undefined);
    await refused([403, 404], () => ofAda.sendMessage({ content: "anybody?" }));
    await refused([403, 404], () => ofBob.updateTopic("Still here"));
    await ada.client().deleteChatThread(id);
    const listed = await ada.client().listChatThreads().all();
    assert.deepEqual(listed.filter((thread) => !thread.deletedOn), []);
  });

  it("adds participants", async () => {
    const [carol, shareHistoryTime] = [await Person.of(), new Date("2024-05-06T07:08:09Z")];
    const participants = [carol.participant("Carol", { shareHistoryTime })];
    assert.equal((await ofAda.addParticipants({ participants })).invalidParticipants, undefined);
    assert.equal((await ofAda.addParticipants({ participants })).invalidParticipants, undefined, "no change");
    const [first, second, third] = await ofBob.listParticipants().all();
    assert.deepEqual([idOf(first), first.shareHistoryTime], [ada.id, new Date(0)]);
    assert.deepEqual([second.displayName, second.shareHistoryTime], ["Bob", new Date(0)]);
    assert.deepEqual([idOf(third), third.displayName, third.shareHistoryTime], [carol.id, "Carol", shareHistoryTime]);
    assert.equal((await carol.thread(id).getProperties()).topic, "Lunch");
  });

  it("lists participants page by page", async () => {
    const others = [];
    for (let number = 0; number < 5; number += 1) others.push(await Person.of());
    await ofAda.addParticipants({ participants: others.map((each) => each.participant()) });
    const pages = await ofAda.listParticipants({ maxPageSize: 3 }).byPage();
    assert.deepEqual(pages.map((page) => page.length), [3, 3, 1]);
    const ids = [ada, bob, ...others].map((each) => each.id);
    assert.deepEqual(pages.flat().map(idOf), ids);
    assert.deepEqual((await ofAda.listParticipants({ skip: 5 }).all()).map(idOf), ids.slice(5));
  });

  it("removes a participant", async () => {
    assert.equal(await ofAda.removeParticipant(bob.user), undefined);
    assert.deepEqual(await everybody(ofAda), [ada.id]);
    await communicationError(403, "Forbidden", () => ofBob.getProperties());
    const listed = await bob.client().listChatThreads().all();
    assert.deepEqual(listed.filter((thread) => !thread.deletedOn), []);
  });

  it("tells who could not be added", async () => {
    const carol = await Person.of();
    const participants = [participant(stranger()), carol.participant()];
    assertPermissionFailed((await ofAda.addParticipants({ participants })).invalidParticipants, stranger());
    assert.deepEqual(await everybody(ofAda), [ada.id, bob.id, carol.id]);
  });

  it("refuses a participant whose id has no form", async () => {
    const participants = [participant("8:acs:broken")];
    const error = await communicationError(400, "BadRequest", () => ofAda.addParticipants({ participants }));
    assert.equal(error.Message, "Identifier format is invalid (8:acs:broken).");
  });

  it("refuses more than 200 participants at once", async () => {
    const hex = (number) => number.toString(16).padStart(12, "0");
    const participants = Array.from({ length: 201 }, (_, number) =>
      participant(ada.id.replace(/_[^_]*$/, `_00000000-0000-0000-0000-${hex(number)}`)),
    );
    await communicationError(400, "BadRequest", () => ofAda.addParticipants({ participants }));
    const create = () => ada.client().createChatThread({ topic: "Many" }, { participants });
    await communicationError(400, "BadRequest", create);
  });
});
