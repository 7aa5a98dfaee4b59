#!/usr/bin/env python3
"""Makes the same calls each time, one after the other, and prints the emulator's log of calls, and ids it made.

    sequence.py [<seed of faults to ask for over the control paths>]

Run by tests/emulator_wire.rs with ACS_CONNECTION_STRING, twice on fresh emulators, to see that they do the same.
Nothing here depends on what came back but for ids; a call that meets a fault is not made again.
"""
import http.client
import os
import sys

import wire
from world import CHAT, EMAIL, PREVIEW, SENDER, SMS, World

FAULTS = [
    {"operation": "any", "effect": "answer", "status": 503, "probability": 0.15},
    {"operation": "send_sms", "effect": "answer", "status": 429, "retry_after_seconds": 1, "probability": 0.3},
    {"operation": "create_identity", "effect": "drop", "commit": "after", "probability": 0.1},
    {"operation": "send_message", "effect": "proceed", "delay_ms": 1, "probability": 0.5},
]


class Caller:
    """Makes calls whatever becomes of them."""

    def __init__(self, connection):
        self.wire = connection
        self.ids = []

    def call(self, method, target, body=None, bearer=None):
        """The answer's JSON, or nothing: a fault or no connection."""
        # A connection of its own for each: one that a fault closed must not take the next call with it.
        self.wire.close()
        try:
            answer = self.wire.send(method, target, body, bearer=bearer)
        except (http.client.HTTPException, OSError):
            return None
        return answer.json() if answer.status < 300 and answer.body else None


def main():
    one = wire.Wire(os.environ["ACS_CONNECTION_STRING"])
    world = World(one)
    thread, alice = world["thread"], world.tokens["alice"]
    ids = [world["alice"], world["bob"], thread]
    if len(sys.argv) > 1:
        for number, fault in enumerate(FAULTS):
            one.control("POST", "faults", {**fault, "seed": int(sys.argv[1]) + number})
    caller = Caller(one)
    messages = f"/chat/threads/{wire.encoded(thread)}/messages?{CHAT}"
    for number in range(60):
        made = caller.call("POST", f"/identities?{PREVIEW}", {"createTokenWithScopes": ["chat"]})
        if made:
            ids.append(made["identity"]["id"])
        text = {"from": SENDER, "smsRecipients": [{"to": f"+142555501{number:02}"}], "message": "Ebb"}
        caller.call("POST", f"/sms?{SMS}", text)
        caller.call("POST", messages, {"content": f"Flow {number}"}, alice)
        mail = {"senderAddress": "a@example.com", "content": {"subject": "Tides"}, "recipients": {"to": [{"address": "b@example.org"}]}}
        sent = caller.call("POST", f"/emails:send?{EMAIL}", mail)
        if sent:
            ids.append(sent["id"])
        caller.call("GET", messages, bearer=alice)
        caller.call("DELETE", f"/identities/{wire.encoded(ids[-1] if ids[-1].startswith('8:') else ids[0])}?{PREVIEW}")
    one.close()
    log = one.send("GET", "/_emulator/calls/log.txt", signed=False)
    assert log.status == 200, log.shown()
    sys.stdout.write(log.body.decode())
    print("\n".join(["ids"] + ids))


if __name__ == "__main__":
    main()
