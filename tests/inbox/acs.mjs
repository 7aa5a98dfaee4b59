// Sends through the official JavaScript SDKs, unmodified, over HTTPS.

import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.NODE_MODULES, "resolve-from-here.js"));
const { EmailClient } = require("@azure/communication-email");
const { SmsClient } = require("@azure/communication-sms");
const { ChatClient } = require("@azure/communication-chat");
const { CommunicationIdentityClient } = require("@azure/communication-identity");
const { AzureCommunicationTokenCredential } = require("@azure/communication-common");

const connectionString = process.env.ACS_CONNECTION_STRING;
const endpoint = /endpoint=([^;]+)/.exec(connectionString)[1];
const emails = new EmailClient(connectionString);
const texts = new SmsClient(connectionString);
const identities = new CommunicationIdentityClient(connectionString);

export const sms = (to, message, options = {}, from = "+18005550100") =>
  texts.send({ from, to: [to].flat(), message }, options);

/** Hands a mail in and answers with its id, without waiting for its delivery. */
export async function email({ subject = "(no subject)", html, plainText, to, attachments, headers, from = "DoNotReply@contoso.example", cc, bcc, replyTo }) {
  const operationId = randomUUID();
  const people = (list) => list?.map((one) => (typeof one === "string" ? { address: one } : one));
  await emails.beginSend(
    {
      senderAddress: from, headers, attachments, replyTo: people(replyTo),
      content: { subject, ...(html === undefined ? {} : { html }), ...(plainText === undefined ? {} : { plainText }) },
      recipients: { to: people(to ?? ["someone@example.com"]), cc: people(cc), bcc: people(bcc) },
    },
    { operationId, updateIntervalInMs: 50 },
  );
  return operationId;
}

/** A user with a chat client of their own. */
export async function chatter(displayName) {
  const { user, token } = await identities.createUserAndToken(["chat"]);
  const client = new ChatClient(endpoint, new AzureCommunicationTokenCredential(token));
  return { client, participant: { id: user, displayName } };
}

/** A thread of these people; the first has made it. */
export async function thread(topic, people) {
  const [maker] = people;
  const { chatThread } = await maker.client.createChatThread({ topic }, { participants: people.map((one) => one.participant) });
  const say = (one, content) =>
    one.client.getChatThreadClient(chatThread.id).sendMessage({ content }, { senderDisplayName: one.participant.displayName });
  return { id: chatThread.id, say, as: (one) => one.client.getChatThreadClient(chatThread.id) };
}

export const createUser = () => identities.createUserAndToken(["chat", "voip"]);
