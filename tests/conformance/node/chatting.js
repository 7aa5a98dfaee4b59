// What the cases of chat share: people with tokens, their clients, and a thread. Used by `chat_*.js`.
//
// People are made by the Identity SDK, as an application would.

import assert from "node:assert/strict";
import { Sdk, connectionString, endpoint, refused, require } from "./judge.js";

const { ChatClient, ChatThreadClient } = require("@azure/communication-chat");
const { AzureCommunicationTokenCredential } = require("@azure/communication-common");
const { CommunicationIdentityClient } = require("@azure/communication-identity");

export const identity = new CommunicationIdentityClient(connectionString);

const socket = "a websocket to a host of the real service that the SDK does not let one choose";
const notifications = ["startRealtimeNotifications", "stopRealtimeNotifications", "on", "off"];
export const sdk = new Sdk("@azure/communication-chat", {
  classes: [ChatClient, ChatThreadClient],
  declarations: ["dist/commonjs/chatClient.d.ts", "dist/commonjs/chatThreadClient.d.ts"],
  uncalled: Object.fromEntries(notifications.map((name) => [`ChatClient.${name}`, socket])),
});

/** Both were seen of the real service for tokens that do not open chat; which of them when, is not known. */
export const noEntry = [401, 403];

/** An ACS user with a token, and the clients that use it. */
export class Person {
  static async of(scopes = ["chat"], user = undefined, by = identity) {
    const person = new Person();
    person.user = user ?? (await identity.createUser());
    person.id = person.user.communicationUserId;
    person.token = (await by.getToken(person.user, scopes)).token;
    return person;
  }

  client(options) {
    const credential = new AzureCommunicationTokenCredential(this.token);
    return sdk.watch(new ChatClient(endpoint, credential, options));
  }

  thread(id) {
    return this.client().getChatThreadClient(id);
  }

  participant(displayName, more = {}) {
    return { id: this.user, displayName, ...more };
  }
}

/** Ada and Bob in a thread of Ada's. */
export const twoInAThread = async () => {
  const [ada, bob] = [await Person.of(), await Person.of()];
  const created = await ada.client().createChatThread({ topic: "Lunch" }, { participants: [bob.participant("Bob")] });
  const id = created.chatThread.id;
  return { ada, bob, created, id, ofAda: ada.thread(id), ofBob: bob.thread(id) };
};

/** The error of a call that chat refuses in its own words, as they came. */
export const communicationError = async (status, code, call) => {
  const { CommunicationError: error } = JSON.parse((await refused(status, call)).body);
  assert.deepEqual([error.Code, error.Details], [code, []]);
  return error;
};

export const idOf = (participant) => participant.id.communicationUserId;
