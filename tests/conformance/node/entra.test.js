// Microsoft's Entra library for JavaScript and the official identity and common clients, unmodified, against the
// emulator.
//
// Run by `tests/conformance.rs`, which starts the emulator and says in the environment where it is:
// ACS_CONNECTION_STRING (https), NODE_EXTRA_CA_CERTS (the emulator's CA), NODE_MODULES, and ACS_EMULATOR_HTTP (such as
// http://127.0.0.1:8082), because the metadata service of a machine speaks plain HTTP alone. The well-known values of
// the test issuer stand in docs/emulator.md.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";

const require = createRequire(join(process.env.NODE_MODULES, "resolve-from-here.js"));
const { CommunicationIdentityClient } = require("@azure/communication-identity");
const { AzureCommunicationTokenCredential } = require("@azure/communication-common");

const endpoint = process.env.ACS_CONNECTION_STRING.match(/^endpoint=(.+?)\/?;/)[1];
// Read by the library, the first whenever a token is asked for, the second when a credential is made.
process.env.AZURE_POD_IDENTITY_AUTHORITY_HOST = process.env.ACS_EMULATOR_HTTP;
process.env.AZURE_AUTHORITY_HOST = endpoint;
const {
  ClientAssertionCredential,
  ClientSecretCredential,
  ManagedIdentityCredential,
  WorkloadIdentityCredential,
} = require("@azure/identity");

const tenant = "00000000-ac5b-4000-8000-000000000000";
const owner = "00000000-ac5b-4000-8000-000000000001";
const stranger = "00000000-ac5b-4000-8000-000000000002";
const userApp = "00000000-ac5b-4000-8000-000000000003";
const user = "00000000-ac5b-4000-8000-000000000021";
const secret = "emulator-client-secret";
const subject = "system:serviceaccount:default:acs-broker";
const scope = "https://communication.azure.com//.default";
// The library asks login.microsoftonline.com whether it knows an authority, unless told that it need not.
const privateCloud = { disableInstanceDiscovery: true };

const folder = mkdtempSync(join(tmpdir(), "acs-broker-entra-"));
after(() => rmSync(folder, { recursive: true }));

/** What a cluster projects into a pod. Nobody checks the signature, for nobody knows the cluster's key. */
const federatedToken = (claims = {}) => {
  const encode = (part) => Buffer.from(JSON.stringify(part)).toString("base64url");
  const usual = {
    iss: "https://cluster.example",
    sub: subject,
    aud: ["api://AzureADTokenExchange"],
    exp: Math.floor(Date.now() / 1000) + 600,
  };
  return `${encode({ alg: "RS256", kid: "cluster" })}.${encode({ ...usual, ...claims })}.c2lnbmF0dXJl`;
};

const bySecret = (client = owner, text = secret) =>
  new ClientSecretCredential(tenant, client, text, privateCloud);
const byAssertion = (claims) =>
  new ClientAssertionCredential(tenant, owner, async () => federatedToken(claims), privateCloud);

const assertWorks = async (credential) => {
  const client = new CommunicationIdentityClient(endpoint, credential);
  const { user: made, token } = await client.createUserAndToken(["chat"]);
  assert.match(made.communicationUserId, /^8:acs:/);
  assert.equal(token.split(".").length, 3);
  assert.ok((await client.getToken(made, ["voip"])).token);
  await client.deleteUser(made);
};

const refusal = async (call) => {
  try {
    await call();
  } catch (error) {
    return error;
  }
  return assert.fail("the call was not refused");
};

describe("principals with the role", () => {
  it("a managed identity", () => assertWorks(new ManagedIdentityCredential()));

  it("a managed identity of a named application", () =>
    assertWorks(new ManagedIdentityCredential({ clientId: owner })));

  it("a workload identity", async () => {
    const tokenFilePath = join(folder, "token");
    writeFileSync(tokenFilePath, federatedToken());
    await assertWorks(
      new WorkloadIdentityCredential({ tenantId: tenant, clientId: owner, tokenFilePath, ...privateCloud }),
    );
  });

  it("a client secret", () => assertWorks(bySecret()));

  it("learn for how long their token is good", async () => {
    for (const [credential, seconds] of [
      [bySecret(), 3599],
      [new ManagedIdentityCredential(), 86399],
    ]) {
      const { expiresOnTimestamp } = await credential.getToken(scope);
      const left = (expiresOnTimestamp - Date.now()) / 1000;
      assert.ok(Math.abs(left - seconds) < 30, `${left} seconds left, not ${seconds}`);
    }
  });
});

describe("refusals", () => {
  for (const [name, credential] of [
    ["a client secret", bySecret(stranger)],
    ["a managed identity", new ManagedIdentityCredential({ clientId: stranger })],
  ]) {
    it(`${name} of a principal without the role`, async () => {
      assert.ok((await credential.getToken(scope)).token, "it does get a token");
      const error = await refusal(() => new CommunicationIdentityClient(endpoint, credential).createUser());
      assert.equal(error.statusCode, 401);
      assert.equal(error.code, "Denied");
    });
  }

  for (const [name, credential, code] of [
    ["a wrong secret", bySecret(owner, "wrong"), "7000215"],
    ["an unknown application", bySecret("00000000-0000-4000-8000-000000000000"), "700016"],
    ["a federated token of another subject", byAssertion({ sub: "system:serviceaccount:default:other" }), "700213"],
    ["a federated token for somebody else", byAssertion({ aud: "https://kubernetes.default.svc" }), "700212"],
    ["an expired federated token", byAssertion({ exp: 1 }), "700024"],
  ]) {
    it(name, async () => {
      const error = await refusal(() => credential.getToken(scope));
      assert.ok(error.message.includes(`AADSTS${code}`), error.message);
      assert.ok(!error.message.includes(secret));
    });
  }
});

describe("exchanges", () => {
  /** The credential of a user who has signed in: the test issuer hands such tokens out without a sign-in page. */
  const signedIn = {
    getToken: async (scopes) => {
      const response = await fetch(`${endpoint}/${tenant}/oauth2/v2.0/token`, {
        method: "POST",
        body: new URLSearchParams({
          grant_type: "urn:acs-broker:emulator:user",
          client_id: userApp,
          scope: scopes.join(" "),
          expires_in: "1800",
        }),
      });
      const { access_token: token, expires_in: seconds } = await response.json();
      return { token, expiresOnTimestamp: Date.now() + seconds * 1000 };
    },
  };

  const assign = async (path, body) => {
    const { token } = await bySecret().getToken(scope);
    const response = await fetch(`${endpoint}${path}`, {
      method: "PUT",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    assert.ok([200, 201].includes(response.status), await response.text());
  };

  const claims = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url"));

  for (const { name, scopes, path, assignment, form } of [
    {
      name: "an Entra user",
      scopes: undefined,
      path: `/access/entra/assignments/${user}?api-version=2025-03-02-preview`,
      assignment: { principalType: "user", tenantId: tenant, clientIds: [userApp] },
      form: new RegExp(`^acs:[0-9a-f-]{36}_wf_${tenant}_${user}$`),
    },
    {
      name: "a user of the Teams extension",
      scopes: ["https://auth.msft.communication.azure.com/TeamsExtension.ManageCalls"],
      path: `/access/teamsExtension/tenants/${tenant}/assignments/${user}?api-version=2025-06-30`,
      assignment: { principalType: "user", clientIds: [userApp] },
      form: new RegExp(`^acs:[0-9a-f-]{36}_${tenant}_${user}$`),
    },
  ]) {
    it(`${name} is refused before the assignment and served after it`, async () => {
      const options = { resourceEndpoint: endpoint, tokenCredential: signedIn, scopes };
      const refused = await refusal(async () => new AzureCommunicationTokenCredential(options).getToken());
      assert.match(refused.message, /Status: 403/);

      await assign(path, assignment);
      const credential = new AzureCommunicationTokenCredential(options);
      const { token, expiresOnTimestamp } = await credential.getToken();
      credential.dispose();
      assert.match(claims(token).skypeid, form);
      const left = (expiresOnTimestamp - Date.now()) / 1000;
      assert.ok(Math.abs(left - 1800) < 30, `it ends with the token it was exchanged for, not in ${left} s`);
    });
  }

  it("a user of Teams", async () => {
    const scopes = ["https://auth.msft.communication.azure.com/Teams.ManageCalls"];
    const { token: teamsUserAadToken } = await signedIn.getToken(scopes);
    const client = new CommunicationIdentityClient(process.env.ACS_CONNECTION_STRING);
    const options = { teamsUserAadToken, clientId: userApp, userObjectId: user };
    const { token, expiresOn } = await client.getTokenForTeamsUser(options);
    assert.equal(claims(token).skypeid, `orgid:${user}`);
    assert.ok(Math.abs(expiresOn.getTime() - Date.now() - 1_800_000) < 30_000);

    for (const [change, status, code] of [
      [{ teamsUserAadToken: "invalid" }, 401, "InvalidAccessToken"],
      [{ clientId: "" }, 400, "ValidationError"],
      [{ clientId: owner }, 400, "ValidationError"],
      [{ userObjectId: "" }, 400, "ValidationError"],
    ]) {
      const error = await refusal(() => client.getTokenForTeamsUser({ ...options, ...change }));
      assert.deepEqual([error.statusCode, error.code], [status, code]);
    }
  });
});
