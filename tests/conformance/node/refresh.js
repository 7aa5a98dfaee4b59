// Two days in the life of a client's credential that renews its tokens by itself. Loaded by `common.test.js`.
//
// The SDK's clock and timers (Node's mock timers) and the emulator's clock go ahead together, in steps. Requests and
// everything else in Node keep real time.

import assert from "node:assert/strict";
import { afterEach, describe, it, mock } from "node:test";
import { calls, connectionString, control, endpoint, require } from "./judge.js";
import { common } from "./commons.js";

const { ChatClient } = require("@azure/communication-chat");
const { CommunicationIdentityClient } = require("@azure/communication-identity");

const minute = 60_000;
const hour = 60 * minute;
/** How long before a token's end the SDK renews it. */
const early = 10 * minute;
const identity = new CommunicationIdentityClient(connectionString);

/** What the emulator's clock shows after it was moved ahead. */
const moved = async (milliseconds) =>
  new Date((await control("POST", "clock", { advance_ms: milliseconds })).now).getTime();

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A person's credential whose refreshes are counted, both clocks set alike. */
const setUp = async (validity) => {
  const user = await identity.createUser();
  const issue = () => identity.getToken(user, ["chat"], { tokenExpiresInMinutes: validity / minute });
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: await moved(0) });
  const first = await issue();
  const refreshes = [];
  let underWay = 0;
  const tokenRefresher = async () => {
    underWay += 1;
    try {
      const { token, expiresOn } = await issue();
      refreshes.push({ at: Date.now(), expires: expiresOn.getTime() });
      return token;
    } finally {
      underWay -= 1;
    }
  };
  const credential = common.credential({ tokenRefresher, token: first.token, refreshProactively: true });
  const chat = new ChatClient(endpoint, credential);
  /** Moves both clocks ahead and lets what falls due come to its end. */
  const step = async (milliseconds) => {
    mock.timers.tick((await moved(milliseconds)) - Date.now());
    do await turn();
    while (underWay > 0);
  };
  /** The token handed out now, which the SDK must not think expired, nor the emulator. */
  const handedOut = async () => {
    const token = await credential.getToken();
    assert.ok(token.expiresOnTimestamp > Date.now(), "it is not expired by the SDK's clock");
    for await (const _ of chat.listChatThreads()) assert.fail("there are no threads");
    return token;
  };
  return { credential, first, refreshes, step, handedOut };
};

describe("a credential that renews its tokens by itself", () => {
  let credential;
  afterEach(() => {
    credential?.dispose();
    mock.timers.reset();
  });

  for (const [validity, pace] of [[24 * hour, 20 * minute], [hour, 5 * minute]]) {
    it(`renews tokens of ${validity / hour} h once each in 48 hours`, async (test) => {
      const before = await calls("issue_token");
      const life = await setUp(validity);
      credential = life.credential;
      const start = Date.now();
      let token = await life.handedOut();
      while (Date.now() - start < 48 * hour) {
        await life.step(pace);
        const next = await life.handedOut();
        assert.ok(next.expiresOnTimestamp >= token.expiresOnTimestamp);
        token = next;
      }
      const { refreshes } = life;
      test.diagnostic(`${refreshes.length} refreshes in 48 hours with tokens of ${validity / hour} h`);
      // Each token serves from its issue until ten minutes before its end, and is renewed once, a step late at most.
      const atMost = Math.floor((48 * hour) / (validity - early - minute));
      const atLeast = Math.floor((48 * hour) / (validity - early + pace + minute));
      assert.ok(refreshes.length <= atMost, `${refreshes.length} refreshes, at most ${atMost}`);
      assert.ok(refreshes.length >= atLeast, `${refreshes.length} refreshes, at least ${atLeast}`);
      let due = life.first.expiresOn.getTime() - early;
      for (const { at, expires } of refreshes) {
        assert.ok(at >= due && at < due + pace + minute, `renewed ${(at - due) / minute} minutes after it was due`);
        due = expires - early;
      }
      assert.equal((await calls("issue_token")) - before, refreshes.length + 1, "and nobody else asked for one");
    });
  }

  it("asks once and hands out a good token after a long sleep", async () => {
    const life = await setUp(hour);
    credential = life.credential;
    for (const sleep of [3 * hour, 30 * hour]) {
      const before = life.refreshes.length;
      mock.timers.tick((await moved(sleep)) - Date.now());
      const tokens = await Promise.all([credential.getToken(), credential.getToken(), life.handedOut()]);
      assert.equal(life.refreshes.length - before, 1, "one refresh for all who wait");
      assert.equal(new Set(tokens.map((each) => each.token)).size, 1);
    }
  });
});
