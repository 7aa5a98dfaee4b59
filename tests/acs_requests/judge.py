#!/usr/bin/env python3
"""Judges what the client sent by the distilled schemas of requests, and compares it with what it was asked to send.

    judge.py <records> [--spoilt]

A record has a case (parameters in the form of the published examples) and the one request it made, with the answer.
With `--spoilt` every record is spoilt in each way of `spoilt`, and the judge must object to each. What the client leaves
out or adds on purpose stands in `DELIBERATE`; what stands there and never happens is a problem as well.
"""
import copy
import json
import os
import pathlib
import re
import sys
import urllib.parse
import uuid

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "emulator_wire"))

import schemas  # noqa: E402
from operations import PATHS, VERSIONS, service_of  # noqa: E402

# Published examples of operations that the client does not have.
NOT_OURS = {"ExchangeTeamsUserAccessToken.json", "GetIdentity.json", "DeliveryReportGet.json"}
# Parameters of a path, in its order.
PLACES = ("id", "operationId", "chatThreadId", "chatMessageId")
# Headers that need no word in the specification of an operation: HTTP's own, authentication, the request's id.
COMMON = {"host", "accept", "user-agent", "content-length", "content-type", "authorization", "x-ms-client-request-id"}
SIGNED = {"x-ms-date", "x-ms-content-sha256"}
HMAC = r"HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature=[A-Za-z0-9+/]{43}="
DATE = r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d\d:\d\d:\d\d GMT"

# What differs on purpose from what a case says: operation, what is done to which key, and why.
DELIBERATE = {
    ("send_sms", "adds", "smsRecipients[].repeatabilityRequestId"): "each recipient has one: a repeated send is done once",
    ("send_sms", "adds", "smsRecipients[].repeatabilityFirstSent"): "goes with the id, which is refused without it",
    ("send_sms", "adds", "smsSendOptions"): "says always whether a report is wanted",
    ("send_sms", "leaves out", "smsSendOptions.deliveryReportTimeoutInSeconds"): "2021-03-07 does not know it",
    ("send_sms", "leaves out", "smsSendOptions.messagingConnect"): "2021-03-07 does not know it",
    ("send_message", "adds", "type"): "says always whether it is text or HTML",
    ("create_thread", "renames", "idempotency-token"): "the specifications call the header repeatability-request-id",
    ("revoke_tokens", "leaves out", "content-type"): "there is no body",
    ("delete_identity", "leaves out", "content-type"): "there is no body",
    # The examples of the other version are the same but for what is left out above.
    ("send_sms", "version", "2026-01-23"): "sending needs no more than 2021-03-07",
    ("send_email", "version", "2023-03-31"): "inline images need 2025-09-01",
    ("get_email_operation", "version", "2023-03-31"): "as the sending",
    **{(name, "version", "2024-03-07"): "the two versions of chat share their examples" for name in PATHS if service_of(name) == "chat"},
}
# Differences that only published examples show.
ONLY_PUBLISHED = ("renames", "version", "leaves out")


@schemas._FORMATS.checks("uuid")
def _is_uuid(value):
    return not isinstance(value, str) or bool(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", value)) and bool(uuid.UUID(value))


def differences(wanted, sent, place=""):
    """What is done to which key. Items of lists share a place; lists must be of one length."""
    if isinstance(wanted, dict) and isinstance(sent, dict):
        for key in wanted.keys() | sent.keys():
            at = f"{place}.{key}" if place else key
            if key not in sent:
                yield "leaves out", at
            elif key not in wanted:
                yield "adds", at
            else:
                yield from differences(wanted[key], sent[key], at)
    elif isinstance(wanted, list) and isinstance(sent, list) and len(wanted) == len(sent):
        for one, other in zip(wanted, sent):
            yield from differences(one, other, f"{place}[]")
    elif wanted != sent or type(wanted) is not type(sent):
        yield "changes", place


class Judge:
    def __init__(self):
        self.schemas = schemas.Schemas()
        self.used = set()

    def of(self, record):
        """What is wrong with a record."""
        try:
            return list(self.problems(record["operation"], record["parameters"], record["sent"]))
        except (KeyError, ValueError) as failure:
            return [f"{type(failure).__name__}: {failure}"]

    def deliberate(self, *difference):
        if difference in DELIBERATE:
            self.used.add(difference)
            return True
        return False

    def problems(self, operation, parameters, sent):
        path, _, query = sent["target"].partition("?")
        pairs = [tuple(map(urllib.parse.unquote, pair.split("=", 1))) for pair in query.split("&")]
        query = dict(pairs)
        if len(query) != len(pairs):
            yield "a query parameter comes twice"
        version = query["api-version"]
        if version not in VERSIONS[service_of(operation)]:
            yield f"no version {version}"
        known = self.schemas.all["requests"][operation][version]
        asked = parameters["api-version"]
        if version != asked and not self.deliberate(operation, "version", asked):
            yield f"version {version}, asked for {asked}"
        left = {name: value for name, value in parameters.items() if name not in ("endpoint", "api-version", "authorization")}
        yield from self.path(operation, sent["method"], path, left)
        yield from self.query(known.get("query", {}), query, left)
        yield from self.headers(operation, known, sent, left)
        yield from self.body(operation, known.get("body"), sent["body"], left)
        for name in left:
            yield f"no place for the parameter {name}"
        yield from self.answer(operation, version, sent)

    def path(self, operation, method, path, left):
        template = f"{method} {path}"
        pattern = re.escape(PATHS[operation]).replace(r"\{\}", "([A-Za-z0-9._~%-]+)")
        found = re.fullmatch(pattern, template)
        if not found:
            yield f"{template} is not {PATHS[operation]}"
            return
        wanted = [left.pop(name) for name in PLACES if name in left]
        if [urllib.parse.unquote(part) for part in found.groups()] != wanted:
            yield f"{template} has not the ids {wanted}"

    def query(self, known, query, left):
        for name, parameter in known.items():
            if parameter.get("required") and name not in query:
                yield f"the query lacks {name}"
            wanted = left.pop(name, None)
            if name != "api-version" and query.get(name) != (None if wanted is None else str(wanted)):
                yield f"the query has {name}={query.get(name)}, not {wanted}"
        for name, value in query.items():
            if name not in known:
                yield f"the query has {name}"
                continue
            schema = {key: each for key, each in known[name].items() if key != "required"}
            value = int(value) if schema["type"] == "integer" else value
            yield from (f"query {name}{each}" for each in self.schemas.violations(schema, value))

    def headers(self, operation, known, sent, left):
        headers = {name.lower(): value for name, value in sent["headers"]}
        if len(headers) != len(sent["headers"]):
            yield "a header comes twice"
        of_operation = {name.lower(): schema for name, schema in known.get("header", {}).items()}
        is_chat = service_of(operation) == "chat"
        allowed = COMMON | of_operation.keys() | (set() if is_chat else SIGNED)
        yield from (f"the header {name} is not published" for name in headers.keys() - allowed)
        if not re.fullmatch(r"Bearer \S+" if is_chat else HMAC, headers.get("authorization", "")):
            yield "the authorization has not its form"
        if not is_chat and not re.fullmatch(DATE, headers.get("x-ms-date", "")):
            yield "x-ms-date is no date"
        if not _is_uuid(headers.get("x-ms-client-request-id", "")):
            yield "x-ms-client-request-id is no id"
        if headers.get("accept") != "application/json":
            yield "accept is not application/json"
        for name, schema in of_operation.items():
            if schema.get("required") and name not in headers:
                yield f"the header {name} is missing"
            if name in headers:
                found = self.schemas.violations({key: each for key, each in schema.items() if key != "required"}, headers[name])
                yield from (f"header {name}{each}" for each in found)
        # The id of an attempt is made anew each time.
        left.pop("x-ms-client-request-id", None)
        if "idempotency-token" in left and self.deliberate(operation, "renames", "idempotency-token"):
            left["repeatability-request-id"] = left.pop("idempotency-token")
        for name in [name for name in left if name.lower() in of_operation]:
            if headers.get(name.lower()) != left.pop(name):
                yield f"the header {name} is not as asked for"
        # What makes an effect once goes with every request that can carry it.
        for name in ("operation-id", "repeatability-request-id"):
            if name in of_operation and name not in headers:
                yield f"the header {name} is missing"
        kind, wanted = headers.get("content-type"), left.pop("content-type", None)
        if not sent["body"]:
            if kind is not None:
                yield "a content type without a body"
            if wanted is not None and not self.deliberate(operation, "leaves out", "content-type"):
                yield "the content type is left out"
        elif kind not in known.get("body", {}).get("types", []) or wanted not in (None, kind):
            yield f"the content type is {kind}"
        if headers.get("content-length") != str(len(sent["body"].encode())):
            yield "the content length is not the body's"

    def body(self, operation, known, text, left):
        if known is None:
            if text:
                yield "there is a body"
            return
        wanted = left.pop(known["name"], None)
        if not text:
            yield from ["the body is missing"] if known.get("required") or wanted is not None else []
            return
        body = json.loads(text)
        yield from (f"against the published schema: {each}" for each in self.schemas.violations(known["schema"], body))
        for done, place in differences(wanted, body):
            if not self.deliberate(operation, done, place):
                yield f"{done} {place or 'the body'}"

    def answer(self, operation, version, sent):
        """The server of the test must not be one that ACS is not."""
        answers = self.schemas.all["operations"][operation][version]
        if str(sent["status"]) not in answers:
            yield f"the test's server answers {sent['status']}"
        elif answers[str(sent["status"])] is not None:
            found = self.schemas.violations(answers[str(sent["status"])], sent["answer"])
            yield from (f"the test's server: {each}" for each in found)


def leaves(value, place=()):
    """The places of all plain values."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        if isinstance(each, (dict, list)):
            yield from leaves(each, (*place, key))
        else:
            yield (*place, key)


def spoilt(record):
    """The record with one thing wrong in its request, in every way that is known here."""
    def made(name, change):
        other = copy.deepcopy(record)
        change(other["sent"])
        return name, other

    def put(name, value):
        return lambda sent: sent.update({name: value})

    def headers(change):
        return lambda sent: sent.update(headers=change(sent["headers"]))

    sent = record["sent"]
    path, _, query = sent["target"].partition("?")
    version = urllib.parse.parse_qs(query)["api-version"][0]
    yield made("another method", put("method", "PUT"))
    yield made("a longer path", put("target", f"{path}/more?{query}"))
    yield made("another path", put("target", f"/v2{path}?{query}"))
    yield made("no version", put("target", path))
    yield made("another version", put("target", sent["target"].replace(version, "2020-01-01")))
    yield made("an unknown query parameter", put("target", f"{sent['target']}&limit=3"))
    yield made("a parameter twice", put("target", f"{sent['target']}&api-version={version}"))
    yield made("an unknown header", headers(lambda all_of: [*all_of, ["repeatability-first-sent", "now"]]))
    yield made("no authorization", headers(lambda all_of: [pair for pair in all_of if pair[0] != "authorization"]))
    yield made("another authorization", headers(lambda all_of: [[n, "Basic x" if n == "authorization" else v] for n, v in all_of]))
    yield made("no accept", headers(lambda all_of: [pair for pair in all_of if pair[0] != "accept"]))
    for name, _ in sent["headers"]:
        if name in ("operation-id", "repeatability-request-id", "content-type", "x-ms-client-request-id"):
            yield made(f"no {name}", headers(lambda all_of, name=name: [pair for pair in all_of if pair[0] != name]))
    if not sent["body"]:
        yield made("a body", put("body", "{}"))
        return
    body = json.loads(sent["body"])

    def with_body(changed):
        text = json.dumps(changed)
        return lambda sent: sent.update(
            body=text, headers=[[n, str(len(text.encode())) if n == "content-length" else v] for n, v in sent["headers"]]
        )

    yield made("the body is a list", with_body([body]))
    yield made("an unknown key", with_body({**body, "unknown": 1}))
    yield made("another content type", headers(lambda all_of: [[n, "text/json" if n == "content-type" else v] for n, v in all_of]))
    for place in leaves(body):
        for name, change in (("lacks", None), ("renames", "rename"), ("changes", "change")):
            other = copy.deepcopy(body)
            inner = other
            for key in place[:-1]:
                inner = inner[key]
            old = inner.pop(place[-1])
            if change == "rename" and isinstance(inner, dict):
                inner[f"{place[-1]}s"] = old
            elif change == "change":
                new = not old if isinstance(old, bool) else old + 1 if isinstance(old, int) else f"{old}~"
                inner.insert(place[-1], new) if isinstance(inner, list) else inner.update({place[-1]: new})
            at = ".".join(map(str, place))
            if not unseen(record, at, change):
                yield made(f"{name} {at}", with_body(other))


def unseen(record, place, change):
    """Whether nobody could see it: what the client adds of its own the case says nothing of."""
    found = re.sub(r"\.\d+", "[]", place)
    added = [key for name, done, key in DELIBERATE if (name, done) == (record["operation"], "adds")]
    own = [key for key in added if found == key or found.startswith(f"{key}.")]
    return bool(own) and change != "rename" and not said(record, place)


def said(record, place):
    value = next((each for each in record["parameters"].values() if isinstance(each, dict)), {})
    for key in place.split("."):
        key = int(key) if isinstance(value, list) else key
        if isinstance(value, dict) and key not in value:
            return False
        value = value[key]
    return True


def covered(records, judge, has_examples):
    """Whether each operation that the client's sources name was called, and each published example used."""
    folder = HERE.parents[1] / "src/acs"
    sources = "".join((folder / f"{name}.rs").read_text(encoding="utf-8") for name in ("identity", "sms", "email", "chat"))
    ours = {name for name in re.findall(r'"([a-z_]+)"', sources) if name in PATHS}
    named = set(re.findall(r'(?:\.call|Call::new)\(\s*"([a-z_]+)"', sources))
    if named - set(PATHS):
        yield f"operations of the client without a path: {sorted(named - set(PATHS))}"
    for is_published in (False, True) if has_examples else (False,):
        called = {record["operation"] for record in records if record["published"] == is_published}
        if called != ours:
            yield f"{'examples' if is_published else 'own cases'}: not those of the client: {sorted(called ^ ours)}"
    if has_examples:
        all_of = pathlib.Path(os.environ["ACS_OPENAPI"]).glob("*/examples/*/*.json")
        there = {"/".join(path.parts[-4:]) for path in all_of if path.parts[-4] != "eventgrid" and path.name not in NOT_OURS}
        unused = there ^ {record["case"] for record in records if record["published"]}
        if unused:
            yield f"examples that are not compared, or not there: {sorted(unused)}"
    unneeded = {each for each in DELIBERATE.keys() - judge.used if has_examples or each[1] not in ONLY_PUBLISHED}
    yield from (f"never happens, though it is said to be deliberate: {each}" for each in sorted(unneeded))


def table(records):
    print(f"{'operation':22} {'own':>4} {'published':>10}  versions sent")
    for name in [name for name in PATHS if any(record["operation"] == name for record in records)]:
        of_name = [record for record in records if record["operation"] == name]
        counts = [sum(record["published"] == is_published for record in of_name) for is_published in (False, True)]
        versions = sorted({re.search("api-version=([^&]+)", record["sent"]["target"])[1] for record in of_name})
        print(f"{name:22} {counts[0]:4} {counts[1]:10}  {', '.join(versions)}")


def main():
    records = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    has_examples = "ACS_OPENAPI" in os.environ
    judge = Judge()
    if sys.argv[2:] == ["--spoilt"]:
        ways = [(record["case"], name, judge.of(other)) for record in records for name, other in spoilt(record)]
        missed = [f"NOT OBJECTED TO  {case}: {name}" for case, name, found in ways if not found]
        print("\n".join(missed) or f"{len(ways)} spoilt requests, all objected to")
        sys.exit(1 if missed or not ways else 0)
    problems = [f"{record['case']}: {problem}" for record in records for problem in judge.of(record)]
    problems += covered(records, judge, has_examples)
    table(records)
    for problem in problems:
        print(f"NOT AS PUBLISHED  {problem}")
    names = {record["operation"] for record in records}
    print(f"{len(records)} requests of {len(names)} operations, {len(judge.used)} deliberate differences, {len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
