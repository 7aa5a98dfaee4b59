#!/usr/bin/env python3
"""Lets the emulator post every kind of event to a webhook in both schemas and compares their shapes.

    events.py [<folder of the OpenAPI files>]

Run by tests/emulator_wire.rs with ACS_CONNECTION_STRING. Compared with fixtures of our own, with the published schema of
each kind, and, with the folder, with the published examples. `exceptions.EVENTS` says what differs on purpose.
"""
import copy
import http.server
import json
import os
import pathlib
import re
import sys
import threading
import time

import exceptions
import schemas
import shape
import wire
from world import SENDER, SMS, World

PREFIX = "Microsoft.Communication."
VERSION = "api-version=2025-03-15"
PATIENCE = 20


class Receiver(http.server.BaseHTTPRequestHandler):
    """A webhook that agrees to everything. Each path keeps what was posted to it."""

    protocol_version = "HTTP/1.1"
    received = {}
    handshakes = {}
    wrong = []

    def do_OPTIONS(self):  # pylint: disable=invalid-name
        origin = self.headers.get("WebHook-Request-Origin")
        if not origin:
            self.wrong.append(f"OPTIONS {self.path} without WebHook-Request-Origin")
        self.handshakes.setdefault(self.path, []).append("OPTIONS")
        self.answer(200, b"", {"WebHook-Allowed-Origin": origin or "*", "WebHook-Allowed-Rate": "1000"})

    def do_POST(self):  # pylint: disable=invalid-name
        posted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        events = posted if isinstance(posted, list) else [posted]
        if self.path == "/event_grid" and not isinstance(posted, list):
            self.wrong.append("an Event Grid delivery is no list")
        kind = self.headers.get("aeg-event-type")
        if kind == "SubscriptionValidation":
            self.handshakes.setdefault(self.path, []).append("SubscriptionValidation")
            code = events[0]["data"]["validationCode"]
            self.answer(200, json.dumps({"validationResponse": code}).encode(), {"Content-Type": "application/json"})
            return
        if self.path == "/event_grid" and kind != "Notification":
            self.wrong.append(f"aeg-event-type is {kind!r}, not Notification")
        self.received.setdefault(self.path, []).extend(events)
        self.answer(200, b"")

    def answer(self, status, body, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def provoke(one):
    """Does everything that there is an event for."""
    world = World(one)
    alice = lambda: world.tokens["alice"]

    def chat(method, path, body=None, patch=False):
        headers = {"content-type": "application/merge-patch+json"} if patch else None
        return world.good(method, f"/chat/threads{path}?{VERSION}", body, alice(), headers)

    def with_notes(name):
        return {**world.participant(name), "metadata": {"seat": name}}

    body = {"topic": "Choir", "metadata": {"hall": "east"}, "participants": [with_notes("alice"), with_notes("bob")]}
    thread = "/" + wire.encoded(chat("POST", "", body)["chatThread"]["id"])
    said = {"content": "Who sings alto?", "senderDisplayName": "Alice", "metadata": {"song": "12"}}
    message = f"{thread}/messages/{chat('POST', f'{thread}/messages', said)['id']}"
    chat("PATCH", message, {"content": "Who sings bass?", "metadata": {"song": "13"}}, patch=True)
    chat("DELETE", message)
    chat("PATCH", thread, {"topic": "Choir on Friday"}, patch=True)
    chat("POST", f"{thread}/participants/:add", {"participants": [with_notes("carol")]})
    chat("POST", f"{thread}/participants/:remove", {"rawId": world["carol"], "communicationUser": {"id": world["carol"]}})
    chat("DELETE", thread)
    sms = {
        "from": SENDER, "smsRecipients": [{"to": "+14255550120"}], "message": "High tide at six.",
        "smsSendOptions": {"enableDeliveryReport": True, "tag": "tide"},
    }
    world.good("POST", f"/sms?{SMS}", sms)
    one.control("POST", "sms/inbound", {"from": "+14255550121", "to": SENDER, "message": "Thank you"})
    operation = world.settled(world.mail("ida@example.org"))
    one.control("POST", f"emails/{operation}/engagement", {"recipient": "ida@example.org", "type": "view"})


def in_lower_case(value):
    """The same with all keys in lower case."""
    if isinstance(value, dict):
        return {key.lower(): in_lower_case(each) for key, each in value.items()}
    return [in_lower_case(each) for each in value] if isinstance(value, list) else value


def published(folder, schema):
    """The shape of each published example by kind, with the exceptions."""
    shapes = {}
    for file in sorted((folder / f"eventgrid/examples/{schema.replace('_', '-')}-schema").glob("*.json")):
        example = json.loads(file.read_text(encoding="utf-8"))
        kind = example["eventType" if schema == "event_grid" else "type"].removeprefix(PREFIX)
        written = shape.written_of(example, ("metadata",))
        for of_kind, (key,), instead, _ in exceptions.EVENTS:
            bare = key.removesuffix("?")
            if of_kind == kind:
                written["data"].pop(bare, None)
                written["data"][key] = instead
            elif of_kind is None and bare in written["data"]:
                written["data"][f"{bare}?"] = written["data"].pop(bare)
        shapes[kind] = written
    return shapes


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else None
    own = json.loads((schemas.FIXTURES / "events.json").read_text(encoding="utf-8"))
    judge_by = schemas.Schemas()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    one = wire.Wire(os.environ["ACS_CONNECTION_STRING"])
    address = f"http://127.0.0.1:{server.server_port}"
    hooks = [{"url": f"{address}/{schema}", "schema": schema} for schema in ("event_grid", "cloud_events")]
    one.control("PUT", "webhooks", hooks)
    provoke(one)

    def kinds(path):
        key = "eventType" if path == "/event_grid" else "type"
        return {event[key].removeprefix(PREFIX) for event in Receiver.received.get(path, [])}

    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and not all(kinds(path) >= own["kinds"].keys() for path in ("/event_grid", "/cloud_events")):
        time.sleep(0.05)

    problems, compared = list(Receiver.wrong), 0
    for schema, key in (("event_grid", "eventType"), ("cloud_events", "type")):
        path = f"/{schema}"
        if not Receiver.handshakes.get(path):
            problems.append(f"{schema}: nothing was asked before the first delivery")
        problems += [f"{schema}: {kind} was never posted" for kind in sorted(own["kinds"].keys() - kinds(path))]
        problems += [f"{schema}: {kind} is no published kind" for kind in sorted(kinds(path) - own["kinds"].keys())]
        examples = published(folder, schema) if folder else {}
        for event in Receiver.received.get(path, []):
            kind = event[key].removeprefix(PREFIX)
            if kind not in own["kinds"]:
                continue
            compared += 1
            wanted = copy.deepcopy(own["kinds"][kind])
            envelope = {**own[schema], "data": wanted["data"]}
            found = shape.differences(envelope, event)
            if not re.fullmatch(wanted["subject"], event["subject"]):
                found.append(f"subject {event['subject']!r} is not {wanted['subject']}")
            found += [f"against the published schema: {each}" for each in judge_by.of_event(kind, event["data"])]
            if kind in examples:
                pair = (examples[kind], event)
                if kind in exceptions.WITHOUT_CASE:
                    pair = tuple({**each, "data": in_lower_case(each["data"])} for each in pair)
                found += [f"against the published example: {each}" for each in shape.differences(*pair)]
            problems += [f"{schema} {kind}: {each}" for each in found]
    for problem in dict.fromkeys(problems):
        print(f"NOT AS PUBLISHED  {problem}")
    print(f"{compared} events of {len(own['kinds'])} kinds compared, {len(set(problems))} problems"
          + ("" if folder else "; without the published examples"))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
