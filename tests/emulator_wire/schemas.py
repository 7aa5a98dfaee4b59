"""Validates answers and events against the distilled schemas, apart from the listed exceptions. Sends nothing."""
import datetime
import json
import pathlib
import re
from dataclasses import dataclass

import jsonschema

import exceptions
from operations import PATHS, VERSIONS, service_of

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures/acs"
_FORMATS = jsonschema.FormatChecker(formats=())


@_FORMATS.checks("date-time")
def _is_time(value):
    if not isinstance(value, str):
        return True
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", value)
    try:
        return bool(found and datetime.datetime.fromisoformat(found[1]))
    except ValueError:
        return False


@_FORMATS.checks("int32")
def _is_int32(value):
    return not isinstance(value, int) or -(2**31) <= value < 2**31


@_FORMATS.checks("int64")
def _is_int64(value):
    return not isinstance(value, int) or -(2**63) <= value < 2**63


@dataclass
class Call:
    """What was asked and answered, as exceptions see it."""

    service: str
    operation: str
    version: str
    status: int
    published: object


class Schemas:
    def __init__(self):
        self.all = json.loads((FIXTURES / "schemas.json").read_text(encoding="utf-8"))
        self.used = set()

    def validator(self, schema):
        whole = {"definitions": self.all["definitions"], "allOf": [schema]}
        return jsonschema.Draft202012Validator(whole, format_checker=_FORMATS)

    def violations(self, schema, value):
        return [f"{error.json_path}: {error.message[:300]}" for error in self.validator(schema).iter_errors(value)]

    def of_answer(self, operation, version, answer):
        """What of an answer is not as published (or as excepted), in words."""
        statuses = self.all["operations"][operation][version]
        status = str(answer.status)
        is_published = status in statuses or "default" in statuses
        published = statuses[status] if status in statuses else statuses.get("default")
        service = service_of(operation)
        call = Call(service, operation, version, answer.status, published)
        if answer.status < 300:
            if not is_published or status not in statuses:
                return [f"a success with {status} is not published; there are {sorted(statuses)}"]
            if published is None:
                return [f"a body where none is published: {answer.body[:100]!r}"] if answer.body else []
        try:
            body = answer.json()
        except ValueError:
            return [f"no JSON: {answer.body[:100]!r}"]
        if answer.status < 300:
            for name, span, key, _ in exceptions.NULLS:
                if name == service and answer.status in span and isinstance(body, dict) and key in body and body[key] is None:
                    self.used.add(f"{name}: {key} is null")
                    del body[key]
            return self.violations(published, body)
        if not isinstance(body, dict):
            return [f"the error is no object: {answer.body[:100]!r}"]
        for name, applies, schema, _ in exceptions.SCHEMAS:
            if applies(call, body):
                self.used.add(name)
                return self.violations(schema, body)
        if published is None:
            return [f"{status} is not published and in no exception"]
        return self.violations(published, body)

    def of_event(self, kind, data):
        if kind not in self.all["events"]:
            return [f"{kind} is no published event"]
        extras = [key for of_kind, key in exceptions.EVENT_EXTRAS if of_kind in (None, kind)]
        known = {key: value for key, value in data.items() if key not in extras}
        schema = self.all["events"][kind]
        instead = {key: exceptions.EVENT_MAPS.get(key, value) for key, value in schema["properties"].items()}
        return self.violations({**schema, "properties": instead}, known)


class Coverage:
    """Which operation was validated in which version, with a success and with an error."""

    def __init__(self, schemas):
        self.schemas = schemas
        self.seen = {}

    def saw(self, operation, version, status):
        self.seen.setdefault((operation, version), set()).add(status)

    def table(self):
        lines, missing = [f"{'operation':34} {'version':20} successes     errors"], []
        for operation in PATHS:
            for version in VERSIONS[service_of(operation)]:
                if version not in self.schemas.all["operations"][operation]:
                    continue
                seen = sorted(self.seen.get((operation, version), ()))
                good, bad = [s for s in seen if s < 300], [s for s in seen if s >= 400]
                texts = [", ".join(map(str, statuses)) or "MISSING" for statuses in (good, bad)]
                lines.append(f"{operation:34} {version:20} {texts[0]:13} {texts[1]}")
                if not (good and bad):
                    missing.append(f"{operation} {version}")
        return "\n".join(lines), missing
