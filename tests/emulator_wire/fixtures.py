#!/usr/bin/env python3
"""Runs our own fixtures in every version that has the operation, and prints which operations were validated.

Run by tests/emulator_wire.rs with ACS_CONNECTION_STRING. Fails when an answer is not as written, or not as published, or
when an operation and version was validated without a success or without an error.
"""
import json
import os
import sys

import judge
import schemas


def main():
    one = judge.Judge(os.environ["ACS_CONNECTION_STRING"])
    only = os.environ.get("ONLY", "")
    for service in ("identity", "sms", "email", "chat"):
        written = json.loads((schemas.FIXTURES / f"{service}.json").read_text(encoding="utf-8"))
        for case in written["cases"]:
            for version in case.get("versions", one.schemas.all["operations"][case["operation"]]):
                if only in f"{case['name']} {case['operation']} {version}":
                    one.run(case, version)
    table, missing = one.coverage.table()
    print(table)
    print("exceptions met: " + ", ".join(sorted(one.schemas.used)))
    print("without a validated success and error: " + (", ".join(missing) or "none"))
    is_well = one.report()
    sys.exit(0 if is_well and (only or not missing) else 1)


if __name__ == "__main__":
    main()
