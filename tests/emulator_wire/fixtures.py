#!/usr/bin/env python3
"""Runs our own fixtures in every version that has the operation, and prints which operations were validated.

Run by tests/emulator_wire.rs with ACS_CONNECTION_STRING. From the first good case of each operation the refusals that
all operations share are made as well. Fails when an answer is not as written or not as published, when an operation and
version was validated without a success or without an error, or when an exception was never needed.
"""
import json
import os
import sys

import exceptions
import judge
import schemas
from operations import service_of

VERSION_ERROR = {"error": {"code": "=ApiVersionUnspecified", "message": "string", "innerError": "null"}}


def envelope(service, code):
    """The shape of an error of a service."""
    if service == "chat":
        return exceptions.CHAT_ERROR_SHAPE
    error = {"code": f"={code}" if code else "string", "message": "string"}
    if service == "email":
        error.update({"target": "null", "details": "null", "innererror": "null"})
    return {"error": error}


def refusals(case):
    """What every operation refuses: nobody, no version; and what it answers when it is throttled or down."""
    service = service_of(case["operation"])
    kept = ("operation", "request", "headers", "body", "needs", "query", "as")
    base = {key: case[key] for key in kept if key in case}
    retry = {"retry-after": "2"}
    yield {**base, "name": f"{case['name']}, asked by nobody", "as": "nobody", "status": 401, "shape": envelope(service, None)}
    yield {
        **base, "name": f"{case['name']}, without a version", "query": {"api-version": None}, "status": 400,
        "shape": VERSION_ERROR,
    }
    for status, code in ((429, "TooManyRequests"), (500, "InternalError"), (503, "ServiceUnavailable")):
        fault = {"effect": "answer", "status": status, "retry_after_seconds": 2}
        yield {
            **base, "name": f"{case['name']}, met by {status}", "fault": fault, "status": status,
            "shape": envelope(service, code), "has": retry,
        }


def main():
    one = judge.Judge(os.environ["ACS_CONNECTION_STRING"])
    only = os.environ.get("ONLY", "")
    refused = set()
    for service in ("identity", "sms", "email", "chat"):
        written = json.loads((schemas.FIXTURES / f"{service}.json").read_text(encoding="utf-8"))
        for case in written["cases"]:
            for version in case.get("versions", one.schemas.all["operations"][case["operation"]]):
                if only not in f"{case['name']} {case['operation']} {version}":
                    continue
                is_well = one.run(case, version)
                is_good = case["status"] in (200, 201, 202, 204) or isinstance(case["status"], list)
                if is_well and is_good and (case["operation"], version) not in refused:
                    refused.add((case["operation"], version))
                    for refusal in refusals(case):
                        one.run(refusal, version)
    table, missing = one.coverage.table()
    print(table)
    named = {name for name, *_ in exceptions.SCHEMAS} | {f"{service}: {key} is null" for service, _, key, _ in exceptions.NULLS}
    unused = sorted(named - one.schemas.used)
    print("exceptions met: " + ", ".join(sorted(one.schemas.used)) + "; never met: " + (", ".join(unused) or "none"))
    print("without a validated success and error: " + (", ".join(missing) or "none"))
    is_well = one.report()
    sys.exit(0 if is_well and (only or not missing and not unused) else 1)


if __name__ == "__main__":
    main()
