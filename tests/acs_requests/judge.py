#!/usr/bin/env python3
"""Judges what the client sent by the distilled schemas of requests, and compares it with what it was asked to send.

    judge.py <records> [--spoilt]

A record has a case (parameters in the form of the published examples) and the one request it made, with the answer.
With `--spoilt` every sound record is spoilt in each way of `spoilt`, and the judge must object to each. What the client
leaves out or adds on purpose stands in `deliberate`; what stands there and never happens is a problem as well.
"""
import json
import os
import pathlib
import re
import sys
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "emulator_wire"))

import schemas
from deliberate import DELIBERATE, ONLY_PUBLISHED
from operations import PATHS, VERSIONS, service_of
from spoilt import spoilt

# Published examples of operations that the client does not have.
NOT_OURS = {"ExchangeTeamsUserAccessToken.json", "GetIdentity.json", "DeliveryReportGet.json"}
# Parameters of a path, in its order.
PLACES = ("id", "operationId", "chatThreadId", "chatMessageId")
# Headers that need no word in the specification of an operation: HTTP's own, authentication, the request's id.
COMMON = {"host", "accept", "user-agent", "content-length", "content-type", "authorization", "x-ms-client-request-id"}
SIGNED = {"x-ms-date", "x-ms-content-sha256"}
HMAC = r"HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature=[A-Za-z0-9+/]{43}="
DATE = r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d\d:\d\d:\d\d GMT"

@schemas._FORMATS.checks("uuid")
def _is_uuid(value):
    return not isinstance(value, str) or bool(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", value))


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
        apart = ("endpoint", "api-version", "authorization")
        left = {name: value for name, value in parameters.items() if name not in apart}
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
        ids = [urllib.parse.unquote(part) for part in found.groups()]
        if ids == [each.lower() for each in wanted] != wanted and self.deliberate(operation, "spells", "operationId"):
            return
        if ids != wanted:
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
                schema = {key: each for key, each in schema.items() if key != "required"}
                yield from (f"header {name}{each}" for each in self.schemas.violations(schema, headers[name]))
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


def operations_missed(records, has_examples):
    """Operations that the client's sources name and no case calls."""
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


def covered(records, judge, has_examples):
    """Whether each operation was called, each published example compared, and each deliberate difference met."""
    yield from operations_missed(records, has_examples)
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
        records = [record for record in records if not judge.of(record)]
        ways = [(record["case"], name, judge.of(other)) for record in records for name, other in spoilt(record)]
        for operation in {record["operation"] for record in records}:
            others = [record for record in records if record["operation"] != operation]
            ways.append((operation, "never called", list(operations_missed(others, has_examples))))
        missed = [f"NOT OBJECTED TO  {case}: {name}" for case, name, found in ways if not found]
        print("\n".join(missed) or f"{len(ways)} spoilt requests, all objected to")
        sys.exit(1 if missed or not ways else 0)
    problems = [f"{record['case']}: {problem}" for record in records for problem in judge.of(record)]
    problems += covered(records, judge, has_examples)
    table(records)
    for problem in problems:
        print(f"NOT AS PUBLISHED  {problem}")
    names = {record["operation"] for record in records}
    met = f"{len(judge.used)} deliberate differences, {len(problems)} problems"
    print(f"{len(records)} requests of {len(names)} operations, {met}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
