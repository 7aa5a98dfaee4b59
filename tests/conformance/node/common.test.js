// What the SDKs for JavaScript have in common: credentials, signatures, connection strings, identifiers.
// See `judge.js`.

import "./refresh.js";
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { common } from "./commons.js";
import { accessKey, connectionString, endpoint, judgeTheSdks, require } from "./judge.js";

const { ChatClient } = require("@azure/communication-chat");
const { CommunicationIdentityClient } = require("@azure/communication-identity");
const { createDefaultHttpClient, createEmptyPipeline, createPipelineRequest } = require("@azure/core-rest-pipeline");

const identity = new CommunicationIdentityClient(connectionString);

describe("connection strings", () => {
  it("are read as the emulator writes them", () => {
    const read = common.parseConnectionString(connectionString);
    assert.deepEqual([read.endpoint, read.credential.key], [endpoint, accessKey]);
    const { url, credential } = common.parseClientArguments(connectionString);
    assert.deepEqual([url, credential.key], [endpoint, accessKey]);
    assert.equal(common.parseClientArguments(endpoint, { key: accessKey }).url, endpoint);
    assert.equal(common.isKeyCredential({ key: accessKey }), true);
    assert.equal(common.isKeyCredential(connectionString), false);
  });
});

describe("signatures", () => {
  /** A request in the preview version, which no client speaks, signed by a policy of the SDK. */
  const preview = async (policy, method, path, body) => {
    const pipeline = createEmptyPipeline();
    pipeline.addPolicy(policy);
    const request = createPipelineRequest({
      url: `${endpoint.replace(/\/$/, "")}/${path}?api-version=2025-03-02-preview`,
      method,
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (body !== undefined) request.headers.set("content-type", "application/json");
    const response = await pipeline.sendRequest(createDefaultHttpClient(), request);
    return { status: response.status, body: JSON.parse(response.bodyAsText) };
  };

  for (const [name, policy] of [
    ["the access key", () => common.createCommunicationAccessKeyCredentialPolicy({ key: accessKey })],
    ["whichever credential", () => common.createCommunicationAuthPolicy({ key: accessKey })],
  ]) {
    it(`by the policy for ${name} are verified`, async () => {
      const customId = `person-${name}`;
      const created = await preview(policy(), "POST", "identities", { customId });
      assert.equal(created.status, 201);
      const again = await preview(policy(), "POST", "identities", { customId, createTokenWithScopes: ["chat"] });
      assert.equal(again.body.identity.id, created.body.identity.id);
      const path = `identities/${encodeURIComponent(created.body.identity.id)}`;
      const read = await preview(policy(), "GET", path);
      assert.deepEqual([read.status, read.body.id, read.body.customId], [200, created.body.identity.id, customId]);
      assert.ok(new Date(read.body.lastTokenIssuedAt).getTime() > 0);
    });
  }

  it("with another key are denied", async () => {
    const key = Buffer.from("another key").toString("base64");
    const answer = await preview(common.createCommunicationAuthPolicy({ key }), "POST", "identities", {});
    assert.deepEqual([answer.status, answer.body.error.code], [401, "Denied"]);
  });
});

describe("the token credential", () => {
  const issue = async () => {
    const user = await identity.createUser();
    return { user, ...(await identity.getToken(user, ["chat"])) };
  };
  const list = async (credential) => {
    for await (const _ of new ChatClient(endpoint, credential).listChatThreads()) assert.fail("no threads");
  };

  it("reads the end of a token", async () => {
    const { token, expiresOn } = await issue();
    const credential = common.credential(token);
    const read = await credential.getToken();
    assert.equal(read.token, token);
    assert.equal(read.expiresOnTimestamp, Math.floor(expiresOn.getTime() / 1000) * 1000);
    await list(credential);
    credential.dispose();
    await assert.rejects(() => credential.getToken());
  });

  it("takes a token with its end", async () => {
    const { token, expiresOn } = await issue();
    const credential = common.credential({ token, expiresOnTimestamp: expiresOn.getTime() });
    assert.equal((await credential.getToken()).expiresOnTimestamp, expiresOn.getTime());
    await list(credential);
  });

  it("asks for its first token when it is first needed, once for all", async () => {
    const user = await identity.createUser();
    let asked = 0;
    const tokenRefresher = async () => {
      asked += 1;
      return (await identity.getToken(user, ["chat"])).token;
    };
    const credential = common.credential({ tokenRefresher });
    assert.equal(asked, 0);
    await Promise.all([list(credential), list(credential), list(credential)]);
    assert.equal(asked, 1);
  });
});

describe("identifiers", () => {
  const resource = "1b3c5d7e-0000-4000-8000-0123456789ab";
  const kinds = [
    [`8:acs:${resource}_0000000a-b1cc-8a94-e3c7-593a0d003a89`, "communicationUser", "isCommunicationUserIdentifier"],
    [`8:dod-acs:${resource}_0000000a-b1cc-8a94-e3c7-593a0d003a89`, "communicationUser", "isCommunicationUserIdentifier"],
    ["8:spool:37691ec4-57fb-4c0f-ae31-32791610cb14", "communicationUser", "isCommunicationUserIdentifier"],
    ["4:+14255550123", "phoneNumber", "isPhoneNumberIdentifier"],
    ["8:orgid:37691ec4-57fb-4c0f-ae31-32791610cb14", "microsoftTeamsUser", "isMicrosoftTeamsUserIdentifier"],
    ["8:dod:37691ec4-57fb-4c0f-ae31-32791610cb14", "microsoftTeamsUser", "isMicrosoftTeamsUserIdentifier"],
    ["8:teamsvisitor:37691ec4-57fb-4c0f-ae31-32791610cb14", "microsoftTeamsUser", "isMicrosoftTeamsUserIdentifier"],
    ["28:orgid:01234567-89ab-cdef-0123-456789abcdef", "microsoftTeamsApp", "isMicrosoftTeamsAppIdentifier"],
    [
      `8:acs:${resource}_b9a1c7d2-0000-4000-8000-000000000001_37691ec4-57fb-4c0f-ae31-32791610cb14`,
      "teamsExtensionUser",
      "isTeamsExtensionUserIdentifier",
    ],
    ["something else", "unknown", "isUnknownIdentifier"],
  ];

  for (const [rawId, kind, is] of kinds) {
    it(`survive as raw ids and on the wire: ${rawId}`, () => {
      const identifier = common.createIdentifierFromRawId(rawId);
      assert.equal(identifier.kind, kind);
      assert.equal(common[is](identifier), true);
      assert.equal(common.getIdentifierKind(identifier).kind, kind);
      assert.equal(common.getIdentifierRawId(identifier), rawId);
      const wire = common.serializeCommunicationIdentifier(identifier);
      const read = common.deserializeCommunicationIdentifier({ rawId, ...wire });
      assert.deepEqual([read.kind, common.getIdentifierRawId(read)], [kind, rawId]);
    });
  }

  it("of the emulator's users are read as users", async () => {
    const user = await identity.createUser();
    const read = common.createIdentifierFromRawId(user.communicationUserId);
    assert.deepEqual(read, { kind: "communicationUser", ...user });
  });
});

judgeTheSdks();
