#!/usr/bin/env python3
"""Sends malformed requests: each must be answered in the service's own words, or closed if it was no HTTP, within 2 s.

    fuzz.py <how many> <seed>

Run by tests/emulator_wire.rs with ACS_CONNECTION_STRING; the Rust side counts panics. The requests come from the good
ones of our fixtures, changed by `mangle`. Most are signed after the change, so that they get past authentication.
"""
import json
import os
import random as randomness
import socket
import sys
import threading
import time
from collections import Counter

import exceptions
import mangle
import schemas
import wire
from operations import service_of
from world import World

PATIENCE = 2.0
# Bodies above this may be refused before they are read: no service takes less.
LARGE = 64 * 1024
# The world is made anew after this many requests: deletions and the like use it up.
WORLD = 400
# What cannot be made beside the rest of a world, or takes long.
LONELY = {"many_threads", "deleted_thread", "thinned_thread"}
# Control requests that cannot bring the emulator into a state in which it rightly waits or fails.
CONTROL = [
    ("GET", "status", None), ("GET", "messages?limit=3", None), ("GET", "messages/nothing", None), ("GET", "calls", None),
    ("GET", "threads?limit=2", None), ("GET", "identities?limit=2", None), ("GET", "calls/log?limit=2", None),
    ("GET", "events?limit=2", None), ("GET", "webhooks", None), ("GET", "faults", None), ("GET", "emails/nothing/source", None),
    ("GET", "emails/nothing/attachments/0", None), ("POST", "identities", {"users": [{"scopes": ["chat"]}]}),
    ("POST", "messages/assert", {"match": {"kind": "sms"}, "at_least": 0}),
    ("POST", "sms/inbound", {"from": "+14255550101", "to": "+18005550100", "message": "hello"}),
    ("POST", "emails/nothing/engagement", {"recipient": "ida@example.org", "type": "view"}),
]
FORMS = [
    "grant_type=client_credentials&client_id=00000000-ac5b-4000-8000-000000000001&scope=a", "grant_type=", "%ff=%zz&&=", "a" * 5000, "",
    "grant_type=urn%3Aacs-broker%3Aemulator%3Auser&client_id=x&scope=%00&object_id=1&expires_in=-1",
    "grant_type=client_credentials&client_assertion=a.b.c&client_assertion_type=x&scope=https%3A%2F%2Fa.example%2F.default",
]


class NoAnswer(Exception):
    """The connection was closed before anything was answered."""


class Stream:
    """A connection that is read by hand."""

    def __init__(self, host):
        name, port = host.rsplit(":", 1)
        self.socket = socket.create_connection((name, int(port)), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def more(self, end):
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.socket.settimeout(left)
        got = self.socket.recv(65536)
        self.buffer += got
        return bool(got)

    def answer(self, method, end):
        """One answer: status, headers, body, and whether the connection goes on. Interim answers are skipped."""
        while True:
            while b"\r\n\r\n" not in self.buffer:
                if not self.more(end):
                    if not self.buffer:
                        raise NoAnswer
                    raise ValueError(f"half an answer: {self.buffer[:80]!r}")
            head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
            lines = head.decode("latin-1").split("\r\n")
            version, status = lines[0].split(" ")[:2]
            if not version.startswith("HTTP/1."):
                raise ValueError(f"no HTTP: {lines[0][:80]!r}")
            if not 100 <= int(status) < 200:
                break
        headers = dict(line.split(": ", 1) if ": " in line else (line.rstrip(":"), "") for line in lines[1:])
        headers = {name.lower(): value for name, value in headers.items()}
        body = b""
        if method != "HEAD" and status not in ("204", "304"):
            if "chunked" in headers.get("transfer-encoding", ""):
                raise ValueError("an answer in chunks, which none here is")
            length = int(headers.get("content-length", "0"))
            while len(self.buffer) < length:
                if not self.more(end):
                    raise ValueError("half a body")
            body, self.buffer = self.buffer[:length], self.buffer[length:]
        return int(status), headers, body, headers.get("connection", "").lower() != "close"

    def close(self):
        self.socket.close()


class Fuzzer:
    """One stream of requests; several run side by side."""

    def __init__(self, connection_string, seed, count):
        self.random = randomness.Random(seed)
        self.wire = wire.Wire(connection_string)
        self.count = count
        self.schemas = schemas.Schemas()
        self.validators = {}
        self.stream = None
        self.statuses = Counter()
        self.kinds = Counter()
        self.problems = []
        self.slowest = (0.0, "")
        self.past_authentication = 0
        self.cases = []
        for service in ("identity", "sms", "email", "chat"):
            written = json.loads((schemas.FIXTURES / f"{service}.json").read_text(encoding="utf-8"))
            for case in written["cases"]:
                first = case["status"][0] if isinstance(case["status"], list) else case["status"]
                is_alone = LONELY & set(case.get("needs", [])) or "report" in case["request"]
                if first < 300 and not is_alone:
                    versions = case.get("versions", list(self.schemas.all["operations"][case["operation"]]))
                    self.cases += [(case, version) for version in versions]

    def good_requests(self):
        """The good requests of our fixtures over one world."""
        world = World(self.wire)
        for name in ("alice", "bob", "carol", "thread", "message", "operation"):
            world[name]
        requests = []
        for case, version in self.cases:
            method, path = case["request"].split(" ", 1)
            query = {"api-version": version, **case.get("query", {})}
            text = "&".join(f"{name}={wire.encoded(str(world.filled(value)))}" for name, value in query.items())
            who = case.get("as", "key")
            if who.startswith("bearer "):
                bearer = world.filled(who.removeprefix("bearer "))
            else:
                bearer = None if who == "key" else world[who] and world.tokens[who]
            headers = world.filled(case.get("headers", {}))
            if method == "PATCH":
                headers["content-type"] = "application/merge-patch+json"
            value = world.filled(case["body"]) if "body" in case else None
            parts = (case["operation"], version, method, world.filled(path, quote=True), text, headers, value, bearer)
            requests.append(lambda parts=parts: mangle.Request(*parts))
        return requests

    def control_request(self):
        method, path, value = self.random.choice(CONTROL)
        path, _, query = f"/_emulator/{path}".partition("?")
        made = mangle.Request(None, None, method, path, query or None, {}, value, None)
        made.is_signed = False
        return made

    def issuer_request(self):
        made = mangle.Request(None, None, "POST", "/00000000-ac5b-4000-8000-000000000000/oauth2/v2.0/token", None, {}, None, None)
        made.raw = self.random.choice(FORMS).encode()
        made.headers["content-type"] = "application/x-www-form-urlencoded"
        made.is_signed = False
        return made

    def run(self):
        made, renewed = [], -WORLD
        while self.kinds.total() < self.count:
            if self.kinds.total() - renewed >= WORLD:
                made, renewed = self.good_requests(), self.kinds.total()
            choice = self.random.random()
            if choice < 0.06:
                request, kind = self.control_request(), "control"
            elif choice < 0.09:
                request, kind = self.issuer_request(), "issuer"
            else:
                request, kind = self.random.choice(made)(), "service"
                if self.random.random() < 0.12:
                    request.is_signed, request.bearer = False, None
            for _ in range(self.random.choice([1, 1, 1, 2, 3])):
                request.change(self.random)
            if kind == "control" and ("path" in request.changed or "method" in request.changed):
                # Another control request might be one that waits, or that breaks things on purpose.
                continue
            head = request.head(self.wire.host, self.wire.key)
            is_broken = self.random.random() < 0.2
            started = time.monotonic()
            try:
                if is_broken:
                    kind = "broken"
                    self.broken(head, request)
                else:
                    self.proper(kind, head, request)
            except TimeoutError:
                self.problem(request, f"neither answered nor closed within {PATIENCE} s ({kind})")
            except NoAnswer:
                self.problem(request, f"closed without an answer ({kind})")
            except (ValueError, OSError) as failure:
                self.problem(request, f"{type(failure).__name__}: {failure} ({kind})")
            self.kinds[kind] += 1
            taken = time.monotonic() - started
            if taken > self.slowest[0]:
                self.slowest = (taken, f"{kind} {request.method[:20]} {request.target[:80]}")

    def problem(self, request, what):
        if self.stream:
            self.stream.close()
            self.stream = None
        body = request.raw[:200]
        self.problems.append(f"{request.method[:20]} {request.target[:160]} {sorted(request.changed)} {body!r}: {what}")

    def proper(self, kind, head, request):
        """A request that is HTTP: it is answered, and the connection may go on."""
        for attempt in (1, 2):
            is_new = self.stream is None
            self.stream = self.stream or Stream(self.wire.host)
            try:
                self.sent(head, request)
                status, headers, body, goes_on = self.stream.answer(request.method, time.monotonic() + PATIENCE)
                break
            except (NoAnswer, BrokenPipeError, ConnectionResetError):
                self.stream.close()
                self.stream = None
                # A kept connection may have been closed before this; a new one must answer. What is refused in the
                # middle of the sending, because it is too large, may reach us as a reset.
                if is_new and (request.is_http_trouble or len(request.raw) > LARGE):
                    self.statuses["reset"] += 1
                    return
                if is_new or attempt == 2:
                    raise
        if not goes_on or self.random.random() < 0.02:
            self.stream.close()
            self.stream = None
        self.statuses[status] += 1
        if kind == "service" and status not in (400, 401, 501) or status == 400 and b"piVersion" not in body:
            self.past_authentication += 1
        wrong = self.wrong(kind, request, status, headers, body)
        if wrong:
            self.problem(request, f"{status} {body[:200]!r}: {wrong}")

    def sent(self, head, request):
        """Sends it. One that is too large may be answered before all of it went out."""
        try:
            self.stream.socket.sendall(head + request.raw)
        except (BrokenPipeError, ConnectionResetError):
            if len(request.raw) <= LARGE:
                raise

    def wrong(self, kind, request, status, headers, body):
        """What is wrong with an answer; nothing if it is a valid success or an error in its envelope."""
        if status < 400:
            return self.wrong_success(kind, request, status, body)
        if status >= 500 and status != 501:
            return "a failure of the emulator itself"
        if request.method == "HEAD" or not body and request.is_http_trouble and status in (400, 414, 431):
            return None
        if not headers.get("content-type", "").startswith("application/"):
            return f"content-type {headers.get('content-type')!r}"
        try:
            value = json.loads(body)
        except ValueError:
            return "no JSON"
        error = value.get("error") if isinstance(value, dict) else None
        is_enveloped = isinstance(error, dict) and isinstance(error.get("code"), str) and isinstance(error.get("message"), str)
        if kind != "service" or status == 501 or request.changed & {"path", "method"}:
            is_oauth = kind == "issuer" and isinstance(error, str)
            is_other = isinstance(value, dict) and ("CommunicationError" in value or "title" in value or status == 400)
            return None if is_enveloped or is_oauth or is_other and kind == "service" else "no error envelope"
        service = service_of(request.operation)
        call = schemas.Call(service, request.operation, request.version, status, None)
        if service == "identity":
            return None if is_enveloped else "no error envelope"
        if service == "sms" and request.version == "2026-01-23":
            is_problem = isinstance(value, dict) and value.get("status") == status and isinstance(value.get("title"), str)
            return None if is_enveloped or is_problem else "neither error nor problem"
        for name, applies, schema, _ in exceptions.SCHEMAS:
            if applies(call, value):
                found = self.violations(name, schema, value)
                return f"{name}: {found[:2]}" if found else None
        return "in no envelope that is known"

    def violations(self, name, schema, value):
        if name not in self.validators:
            self.validators[name] = self.schemas.validator(schema)
        return [error.message[:100] for error in self.validators[name].iter_errors(value)]

    def wrong_success(self, kind, request, status, body):
        if kind == "control" or kind == "issuer" or request.changed & {"path", "method", "query"}:
            return None
        if status not in (200, 201, 202, 204):
            return "no success that is published"
        answer = wire.Answer(status, [], body)
        found = self.schemas.of_answer(request.operation, request.version, answer)
        return f"against the published schema: {found[:2]}" if found else None

    def broken(self, head, request):
        """What is no HTTP, on a connection of its own: an answer or an end, in time."""
        data, has_good_start = mangle.broken(self.random, head, request.raw)
        stream = Stream(self.wire.host)
        end = time.monotonic() + PATIENCE
        method = "HEAD" if data.startswith(b"HEAD ") else "GET"
        answers = 0
        try:
            try:
                stream.socket.sendall(data)
                if has_good_start:
                    status = stream.answer(method, end)[0]
                    self.statuses[status] += 1
                    answers += 1
                    if status >= 500 and status != 501:
                        raise ValueError(f"{status}: a failure of the emulator itself")
                stream.socket.shutdown(socket.SHUT_WR)
                while True:
                    status, _, body, _ = stream.answer(method, end)
                    self.statuses[status] += 1
                    answers += 1
                    if status >= 500 and status not in (501, 505):
                        raise ValueError(f"{status}: a failure of the emulator itself")
                    if body:
                        json.loads(body)
            except (NoAnswer, BrokenPipeError, ConnectionResetError, OSError) as failure:
                if isinstance(failure, TimeoutError):
                    raise
                if not answers:
                    self.statuses["closed"] += 1
        finally:
            stream.close()


def main():
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    connection_string = os.environ["ACS_CONNECTION_STRING"]
    print(f"{count} requests, seed {seed}", flush=True)
    lanes = 4
    fuzzers = [Fuzzer(connection_string, seed * lanes + lane, -(-count // lanes)) for lane in range(lanes)]
    started = time.monotonic()
    failures = []

    def work(fuzzer):
        try:
            fuzzer.run()
        except BaseException as failure:  # pylint: disable=broad-except
            failures.append(f"{type(failure).__name__}: {failure}")

    threads = [threading.Thread(target=work, args=(fuzzer,)) for fuzzer in fuzzers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.monotonic() - started

    statuses = sum((fuzzer.statuses for fuzzer in fuzzers), Counter())
    kinds = sum((fuzzer.kinds for fuzzer in fuzzers), Counter())
    problems = [problem for fuzzer in fuzzers for problem in fuzzer.problems]
    print("by status: " + ", ".join(f"{status}: {n}" for status, n in sorted(statuses.items(), key=str)))
    print("by kind: " + ", ".join(f"{kind}: {n}" for kind, n in sorted(kinds.items())))
    print(f"past authentication and version: {sum(fuzzer.past_authentication for fuzzer in fuzzers)}")
    slowest = max(fuzzer.slowest for fuzzer in fuzzers)
    print(f"{taken:.1f} s; slowest {slowest[0] * 1000:.0f} ms: {slowest[1]}")
    for problem in problems[:40]:
        print(f"WRONG  {problem}")
    for failure in failures:
        print(f"FAILED  {failure}")
    print(f"{sum(kinds.values())} sent, {len(problems)} problems")

    world = World(wire.Wire(connection_string))
    assert world.user("afterwards").startswith("8:acs:")
    assert world["message"] and world["operation"] and world["report"]
    print("afterwards good requests work")
    sys.exit(1 if problems or failures else 0)


if __name__ == "__main__":
    main()
