// The official Identity SDK for JavaScript. See `judge.js`.

import assert from "node:assert/strict";
import { createHash, createHmac } from "node:crypto";
import { describe, it } from "node:test";
import {
  Sdk, accessKey, assertDenied, connectionString, control, endpoint, fault, judgeTheSdks, refused, require, rotate,
  waitsOut, withAWrongKey,
} from "./judge.js";

const { CommunicationIdentityClient } = require("@azure/communication-identity");
const { AzureCommunicationTokenCredential } = require("@azure/communication-common");

const sdk = new Sdk("@azure/communication-identity", {
  classes: [CommunicationIdentityClient],
  declarations: ["types/communication-identity.d.ts"],
});
const client = (...args) =>
  sdk.watch(new CommunicationIdentityClient(...(args.length > 0 ? args : [connectionString])));

const idForm = /^8:acs:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const scopes = ["chat", "voip", "chat.join", "chat.join.limited", "voip.join"];

/** A client whose requests are changed once they are signed, by a policy in the SDK's own pipeline. */
const tampering = (change) => {
  const sendRequest = (request, next) => {
    change(request);
    return next(request);
  };
  const policy = { name: "tampering", sendRequest };
  return client(connectionString, { additionalPolicies: [{ position: "perRetry", policy }] });
};

const assertMinutesLeft = (expiresOn, minutes) => {
  const left = (expiresOn.getTime() - Date.now()) / 60_000;
  assert.ok(Math.abs(left - minutes) < 1, `${left} minutes left, not ${minutes}`);
};

describe("identity", () => {
  it("creates a user", async () => {
    const [a, b] = [await client().createUser(), await client().createUser()];
    assert.match(a.communicationUserId, idForm);
    assert.notEqual(a.communicationUserId, b.communicationUserId);
    assert.equal(a.communicationUserId.split("_")[0], b.communicationUserId.split("_")[0]);
    const { ids } = await control("GET", "identities");
    assert.ok(ids.includes(a.communicationUserId) && ids.includes(b.communicationUserId));
  });

  it("creates a user and a token", async () => {
    const { user, token, expiresOn } = await client().createUserAndToken(["chat", "voip"]);
    assert.match(user.communicationUserId, idForm);
    assert.equal(token.split(".").length, 3);
    assertMinutesLeft(expiresOn, 1440);
  });

  it("creates a user and a short token", async () => {
    const { expiresOn } = await client().createUserAndToken(["chat"], { tokenExpiresInMinutes: 60 });
    assertMinutesLeft(expiresOn, 60);
  });

  for (const scope of scopes) {
    for (const minutes of [60, 1440]) {
      it(`issues a token for ${scope} and ${minutes} minutes`, async () => {
        const user = await client().createUser();
        const options = { tokenExpiresInMinutes: minutes };
        const first = await client().getToken(user, [scope], options);
        const second = await client().getToken(user, [scope], options);
        assertMinutesLeft(first.expiresOn, minutes);
        assert.notEqual(first.token, second.token);
      });
    }
  }

  for (const minutes of [59, 1441]) {
    it(`refuses ${minutes} minutes`, async () => {
      const user = await client().createUser();
      const options = { tokenExpiresInMinutes: minutes };
      for (const call of [
        () => client().getToken(user, ["chat"], options),
        () => client().createUserAndToken(["chat"], options),
      ]) {
        const { code, message, details } = await refused(400, call);
        assert.equal(code, "ValidationError");
        assert.equal(details.error.target, "ExpiresInMinutes");
        assert.equal(
          message,
          `ExpiresInMinutes value ${minutes} is invalid. Value must be within the [60, 1440] interval.`,
        );
      }
    });
  }

  it("revokes tokens", async () => {
    const { user } = await client().createUserAndToken(["chat"]);
    assert.equal(await client().revokeTokens(user), undefined);
    assert.ok((await client().getToken(user, ["chat"])).token);
  });

  it("deletes a user", async () => {
    const user = await client().createUser();
    assert.equal(await client().deleteUser(user), undefined);
    assert.ok(!(await control("GET", "identities")).ids.includes(user.communicationUserId));
    await refused(404, () => client().getToken(user, ["chat"]));
    await refused(404, () => client().revokeTokens(user));
  });

  it("exchanges the token of a Teams user", async () => {
    // What a user of Teams who has signed in brings: the test issuer of docs/emulator.md hands it out.
    const [tenant, clientId, userObjectId] = ["0", "3", "21"].map(
      (number) => `00000000-ac5b-4000-8000-${number.padStart(12, "0")}`,
    );
    const response = await fetch(`${endpoint.replace(/\/$/, "")}/${tenant}/oauth2/v2.0/token`, {
      method: "POST",
      body: new URLSearchParams({
        grant_type: "urn:acs-broker:emulator:user",
        client_id: clientId,
        scope: "https://auth.msft.communication.azure.com/Teams.ManageCalls",
        expires_in: "1800",
      }),
    });
    const { access_token: teamsUserAadToken } = await response.json();
    const options = { teamsUserAadToken, clientId, userObjectId };
    const { token, expiresOn } = await client().getTokenForTeamsUser(options);
    assert.equal(token.split(".").length, 3);
    assertMinutesLeft(expiresOn, 30);
    const seen = await refused(400, () => client().getTokenForTeamsUser({ ...options, clientId: "" }));
    assert.deepEqual([seen.code, seen.message], ["ValidationError", "AppId: The AppId field is required."]);
  });

  it("refuses a Teams token that is none", async () => {
    for (const teamsUserAadToken of ["", "no-token", "ey.ey.ey"]) {
      const options = { teamsUserAadToken, clientId: "an-app", userObjectId: "a-person" };
      const { code, message } = await refused(401, () => client().getTokenForTeamsUser(options));
      assert.deepEqual([code, message], ["InvalidAccessToken", "Provided access token is not valid."]);
    }
  });

  it("hands out tokens that the client-side credential reads", async () => {
    const { token, expiresOn } = await client().createUserAndToken(["chat"]);
    const credential = new AzureCommunicationTokenCredential(token);
    const read = await credential.getToken();
    credential.dispose();
    assert.equal(read.expiresOnTimestamp, Math.floor(expiresOn.getTime() / 1000) * 1000);
  });

  it("answers with the headers of the service", async () => {
    let seen;
    await client().createUser({ onResponse: (response) => (seen = response) });
    const { headers, request, status } = seen;
    assert.equal(status, 201);
    assert.equal(headers.get("x-ms-client-request-id"), request.requestId);
    assert.ok(headers.get("api-supported-versions").split(", ").includes("2023-10-01"));
    assert.equal(headers.get("content-type"), "application/json; charset=utf-8");
    assert.ok(headers.get("ms-cv"));
  });

  it("takes either key until it is rotated", async () => {
    const second = client(await rotate("secondary"));
    assert.match((await second.createUser()).communicationUserId, idForm);
    const third = client(await rotate("secondary"));
    await assertDenied(() => second.createUser());
    for (const each of [third, client()]) assert.match((await each.createUser()).communicationUserId, idForm);
  });

  it("takes a key credential", async () => {
    assert.match((await client(endpoint, { key: accessKey }).createUser()).communicationUserId, idForm);
  });

  it("creates many users at once", async () => {
    const by = client();
    const made = await Promise.all(Array.from({ length: 40 }, () => by.createUserAndToken(["chat"])));
    assert.equal(new Set(made.map(({ user }) => user.communicationUserId)).size, 40);
    assert.equal(new Set(made.map(({ token }) => token)).size, 40);
  });

  it("waits out a 429", async () => {
    const user = await client().createUser();
    await waitsOut("create_identity", () => client().createUser());
    await waitsOut("issue_token", () => client().getToken(user, ["chat"]));
    await waitsOut("revoke_tokens", () => client().revokeTokens(user));
    await waitsOut("delete_identity", () => client().deleteUser(user));
  });

  it("leaves an orphan when the SDK repeats a creation", async () => {
    const alive = async () => (await control("GET", "identities")).alive;
    const before = await alive();
    await fault("create_identity", 503, { retry_after_seconds: 1, commit: "after" });
    await client().createUser();
    assert.equal((await alive()) - before, 2);
  });
});

describe("refusals", () => {
  const create = (by) => () => by.createUserAndToken(["chat"]);

  it("denies a wrong key", () => assertDenied(create(client(withAWrongKey))));

  it("denies a body changed after signing", async () => {
    const change = (request) => {
      assert.ok(request.headers.has("authorization"), "the request is signed by now");
      request.body = request.body.replace("chat", "voip");
    };
    const message = "Request 'x-ms-content-sha256' differs from generated content hash.";
    await assertDenied(create(tampering(change)), message);
  });

  it("denies an old date, well signed", async () => {
    const change = (request) => {
      const url = new URL(request.url);
      const date = new Date(Date.now() - 10 * 60_000).toUTCString();
      const hash = createHash("sha256").update(request.body).digest("base64");
      const text = `${request.method}\n${url.pathname}${url.search}\n${date};${url.host};${hash}`;
      const signature = createHmac("sha256", Buffer.from(accessKey, "base64")).update(text).digest("base64");
      request.headers.set("x-ms-date", date);
      request.headers.set(
        "authorization",
        `HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature=${signature}`,
      );
    };
    await assertDenied(create(tampering(change)), "greater than the allowed margin of 5 minutes");
  });
});

judgeTheSdks();
