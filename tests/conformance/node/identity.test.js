// The official JavaScript SDK, unmodified, against the emulator over HTTPS.
//
// Run by `tests/conformance.rs`, which starts the emulator and says in the environment where it is:
// ACS_CONNECTION_STRING (https) and NODE_EXTRA_CA_CERTS (the emulator's CA). The SDK is found through NODE_MODULES,
// so that this folder needs no installation. Nothing here knows the emulator's insides.

import assert from "node:assert/strict";
import { createHash, createHmac } from "node:crypto";
import { createRequire } from "node:module";
import { join } from "node:path";
import { describe, it } from "node:test";

const require = createRequire(join(process.env.NODE_MODULES, "resolve-from-here.js"));
const { CommunicationIdentityClient } = require("@azure/communication-identity");
const { AzureCommunicationTokenCredential } = require("@azure/communication-common");

const connectionString = process.env.ACS_CONNECTION_STRING;
const [endpoint, accessKey] = connectionString.match(/^endpoint=(.+);accesskey=(.+)$/).slice(1);
const idForm = /^8:acs:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const scopes = ["chat", "voip", "chat.join", "chat.join.limited", "voip.join"];

const client = (text = connectionString, options = {}) => new CommunicationIdentityClient(text, options);

/** A client whose requests are changed once they are signed, by a policy in the SDK's own pipeline. */
const tampering = (change) =>
  client(connectionString, {
    additionalPolicies: [
      {
        position: "perRetry",
        policy: {
          name: "tampering",
          sendRequest: (request, next) => {
            change(request);
            return next(request);
          },
        },
      },
    ],
  });

const assertMinutesLeft = (expiresOn, minutes) => {
  const left = (expiresOn.getTime() - Date.now()) / 60_000;
  assert.ok(Math.abs(left - minutes) < 1, `${left} minutes left, not ${minutes}`);
};

const refusal = async (call) => {
  try {
    await call();
  } catch (error) {
    return { status: error.statusCode, code: error.code, message: error.message, details: error.details };
  }
  return assert.fail("the call was not refused");
};

describe("identity", () => {
  it("creates a user", async () => {
    const [a, b] = [await client().createUser(), await client().createUser()];
    assert.match(a.communicationUserId, idForm);
    assert.notEqual(a.communicationUserId, b.communicationUserId);
    assert.equal(a.communicationUserId.split("_")[0], b.communicationUserId.split("_")[0]);
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
    const wanted = {
      status: 400,
      code: "ValidationError",
      target: "ExpiresInMinutes",
      message: `ExpiresInMinutes value ${minutes} is invalid. Value must be within the [60, 1440] interval.`,
    };
    const assertRefused = (refused) => {
      assert.equal(refused.status, wanted.status);
      assert.equal(refused.code, wanted.code);
      assert.equal(refused.message, wanted.message);
      assert.equal(refused.details.error.target, wanted.target);
    };
    it(`refuses ${minutes} minutes`, async () => {
      const user = await client().createUser();
      const options = { tokenExpiresInMinutes: minutes };
      assertRefused(await refusal(() => client().getToken(user, ["chat"], options)));
      assertRefused(await refusal(() => client().createUserAndToken(["chat"], options)));
    });
  }

  it("revokes tokens", async () => {
    const { user } = await client().createUserAndToken(["chat"]);
    await client().revokeTokens(user);
    assert.ok((await client().getToken(user, ["chat"])).token);
  });

  it("deletes a user", async () => {
    const user = await client().createUser();
    await client().deleteUser(user);
    assert.equal((await refusal(() => client().getToken(user, ["chat"]))).status, 404);
  });

  it("hands out tokens that the client-side credential reads", async () => {
    const { token, expiresOn } = await client().createUserAndToken(["chat"]);
    const credential = new AzureCommunicationTokenCredential(token);
    const read = await credential.getToken();
    credential.dispose();
    assert.equal(read.expiresOnTimestamp, Math.floor(expiresOn.getTime() / 1000) * 1000);
  });
});

describe("refusals", () => {
  const assertDenied = (refused, message) => {
    assert.equal(refused.status, 401);
    assert.equal(refused.code, "Denied");
    assert.ok(refused.message.includes(message), refused.message);
  };
  const create = (by) => () => by.createUserAndToken(["chat"]);

  it("denies a wrong key", async () => {
    const wrong = Buffer.from("another key").toString("base64");
    const refused = await refusal(create(client(`endpoint=${endpoint};accesskey=${wrong}`)));
    assertDenied(refused, "Denied by the resource provider.");
  });

  it("denies a body changed after signing", async () => {
    const change = (request) => {
      assert.ok(request.headers.has("authorization"), "the request is signed by now");
      request.body = request.body.replace("chat", "voip");
    };
    const refused = await refusal(create(tampering(change)));
    assertDenied(refused, "Request 'x-ms-content-sha256' differs from generated content hash.");
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
    const refused = await refusal(create(tampering(change)));
    assertDenied(refused, "greater than the allowed margin of 5 minutes");
  });
});
