#!/usr/bin/env python3
"""Replays every published example: the request as published but for live ids, then status and shape of the answer.

    published.py <folder of the OpenAPI files>

Run by tests/emulator_wire.rs with ACS_CONNECTION_STRING and ACS_THROTTLED_CONNECTION_STRING (an emulator that applies
the published rate limits). Errors are provoked: see `ERRORS`. What differs on purpose is in `exceptions`.
"""
import json
import os
import pathlib
import re
import sys

import exceptions
import judge
import shape
from operations import NAMES, VERSIONS, service_of

# Keys of answers that hold objects with free keys.
MAPS = ("metadata", "errors")
# Answers with one item per item of the request, in its order.
IN_ORDER = ("send_sms", "add_opt_outs", "remove_opt_outs", "check_opt_outs")
# Path parameters by their published names.
PLACES = {
    "id": "{identity}", "chatThreadId": "{thread}", "chatMessageId": "{message}", "operationId": "{sent_operation}",
    "outgoingMessageId": "{report}",
}
# Headers of examples whose value must be new each time.
FRESH = {"operation-id": "{uuid}", "repeatability-request-id": "{uuid}", "idempotency-token": "{uuid}"}
# What stands for a published id, token or date in a request, by example.
_PEOPLE = {"c94ff260": "{alice}", "0e59221d": "{bob}", "a34d2d65": "{unknown_user}", "f6762773": "{foreign_user}"}
INSTEAD = {
    "Threads_CreateChatThread.json": _PEOPLE,
    "Threads_CreateChatThreadWithIdempotencyToken.json": _PEOPLE,
    # The example's answer refuses two participants whom its request does not name: two of the three here are such.
    "Participants_AddChatParticipants.json": {"c94ff260": "{dora}", "0e59221d": "{unknown_user}", "f13a9208": "{foreign_user}"},
    "Participants_RemoveChatParticipant.json": {"0e59221d": "{bob}"},
    "Conversations_SendChatReadReceipt.json": {"1591137790240": "{message}"},
    "ExchangeTeamsUserAccessToken.json": {
        "AzureActiveDirectoryAccessTokenOfATeamsUser": "{teams_token}", "2c3e1e83": "{teams_app}", "32c0a5db": "{teams_user}",
    },
    # An id of one's own is taken for good by whoever used it first.
    "CreateIdentity.json": {"sally@contoso.com": "{custom_id}"},
    # The recipients of the examples whose backend is down are numbers that meet this at the emulator.
    "send.json": {"+11234567892": "+12065550133", "fda6d242": "{uuid}", "Mon, 01 Apr 2019": "{now}"},
    "SmsSend.json": {"+11234567892": "+12065550133", "fda6d242": "{uuid}", "Mon, 01 Apr 2019": "{now}"},
    "OptOutAdd.json": {"+15555555552": "+12065550135"},
    "OptOutRemove.json": {"+15555555553": "+12065550135"},
    "OptOutCheck.json": {"+15555555553": "+12065550135"},
}
# What an example's answer needs to be there already, and other differences of its request.
PREPARED = {
    "Conversations_ListChatReadReceiptsWithPageSize.json": {"needs": ["read_message"], "follow": True},
    "Messages_ListChatMessagesWithPageSize.json": {"needs": ["pinned_message"], "follow": True},
    "Participants_ListChatParticipantsWithPageSize.json": {"needs": ["thread"], "follow": True},
    "Threads_ListChatThreadsWithPageSize.json": {"needs": ["many_threads"], "follow": True},
    "GetIdentity.json": {"request": "GET /identities/{known_identity}"},
    "GetOperationStatusReturnsNonTerminalStatus.json": {
        "request": "GET /emails/operations/{operation}", "has": {"retry-after": "[1-9][0-9]*"},
    },
    "GetOperationStatusReturnsSuccessTerminalStatus.json": {"lacks": ["retry-after"]},
    "GetOperationStatusReturnsFailedTerminalStatus.json": {"request": "GET /emails/operations/{failed_operation}"},
    "SendEmail.json": {"has": {"operation-location": "{base}/+emails/operations/{uuid}\\?api-version=[0-9-]+", "retry-after": "[1-9][0-9]*"}},
    "Messages_SendChatMessage.json": {"has": {"location": "{base}/chat/threads/[^/]+/messages/[0-9]+"}},
    "Threads_CreateChatThread.json": {"has": {"location": "{base}/chat/threads/19[^/]+"}},
}


# The exceptions that changed what an example expects.
APPLIED = set()


def error(example, operation, status):
    """How the error of an example is provoked: what of the request is different. A fault is the last resort."""
    if service_of(operation) == "chat":
        if status == 401:
            return {"as": "nobody"}
        if status == 403 and operation == "create_thread":
            return {"as": "joiner"}
        if status == 403 and operation == "list_threads":
            # No user is shut out of their own threads, so only a fault gives this one.
            return {"fault": {"effect": "answer", "status": 403}}
        if status == 403:
            return {"as": "stranger"}
        if status == 429:
            return {"until": 429, "needs": needs(example)}
        if status == 503:
            return {"fault": {"effect": "answer", "status": 503}}
    return {
        ("DeliveryReportGet.json", 404): {"request": "GET /deliveryReports/abc123-message-id"},
        ("OptOutAdd.json", 400): {"body": {"from": "+123", "recipients": [{"to": "+15555555551"}]}},
        ("OptOutAdd.json", 401): {"as": "tampered"},
        ("OptOutCheck.json", 400): {"query": {"api-version": None}},
        ("OptOutCheck.json", 401): {"as": "tampered"},
        ("OptOutRemove.json", 400): {"query": {"api-version": "2024-12-10w-preview"}},
        ("OptOutRemove.json", 401): {"body": {"from": "+18005550177", "recipients": [{"to": "+15555555551"}]}},
        ("SmsSend.json", 400): {
            "body": {"from": "+18001110000", "smsRecipients": [{"to": "Ad155500000000000"}], "message": "Hello world!"},
        },
        ("SmsSend.json", 401): {
            "body": {"from": "+18005550177", "smsRecipients": [{"to": "+11234567890"}], "message": "Hello world!"},
        },
    }[example, status]


def needs(example):
    """What must be there for a request that is only to be refused: as little as the limits let one prepare."""
    return ["message"] if example in ("Messages_GetChatMessage.json", "Messages_UpdateChatMessage.json") else []


def examples(folder):
    """Every published example with its operation, version and the operation's parameters."""
    for service, versions in VERSIONS.items():
        for version in versions:
            specification = json.loads((folder / service / f"{version}.json").read_text(encoding="utf-8"))
            shared = specification.get("parameters", {})
            for place, methods in specification["paths"].items():
                for method, operation in methods.items():
                    path = f"{method.upper()} {re.sub(r'{[^}]*}', '{}', place)}"
                    parameters = [shared.get(each["$ref"].split("/")[-1], {}) if "$ref" in each else each
                                  for each in methods.get("parameters", []) + operation.get("parameters", [])]
                    for reference in operation.get("x-ms-examples", {}).values():
                        file = folder / service / "examples" / version / pathlib.Path(reference["$ref"]).name
                        yield service, version, NAMES[path], f"{method.upper()} {place}", parameters, file


def replaced(value, instead):
    if isinstance(value, dict):
        return {key: replaced(each, instead) for key, each in value.items()}
    if isinstance(value, list):
        return [replaced(each, instead) for each in value]
    if isinstance(value, str):
        for published, live in instead.items():
            if published in value:
                return live
    return value


def case_of(service, operation, path, parameters, file):
    """The request of an example, without what it expects."""
    given = json.loads(file.read_text(encoding="utf-8"))["parameters"]
    instead = INSTEAD.get(file.name, {})
    case = {"operation": operation, "request": path, "query": {}, "headers": {}, "as": "alice" if service == "chat" else "key"}
    for parameter in parameters:
        name, place = parameter.get("name"), parameter.get("in")
        if place == "path":
            case["request"] = case["request"].replace(f"{{{name}}}", PLACES[name])
        if place == "query" and name in given and name != "api-version":
            case["query"][name] = given[name]
        if place == "body" and name in given:
            case["body"] = replaced(given[name], instead)
    for name, value in given.items():
        if name.lower() in FRESH:
            header = "repeatability-request-id" if name == "idempotency-token" else name
            case["headers"][header] = FRESH[name.lower()]
        elif name in ("content-type", "x-ms-client-request-id"):
            case["headers"][name] = value
    if "{message}" in case["request"] or "{message}" in json.dumps(case.get("body")):
        case["needs"] = ["message"]
    case.update(PREPARED.get(file.name, {}))
    return case


def expected(service, version, operation, file, status, answer):
    """The shape of a published answer, with the exceptions."""
    if "body" not in answer:
        return None
    if service == "chat" and int(status) >= 400:
        return exceptions.CHAT_ERROR_SHAPE
    written = shape.written_of(answer["body"], MAPS)
    if operation in IN_ORDER and int(status) < 300:
        written["value"] = ["exactly"] + [shape.written_of(item, MAPS) for item in answer["body"]["value"]]
    for example, of_status, place, instead, _ in exceptions.EXAMPLES:
        if example == f"{service}/{version}/{file.name}" and of_status == status:
            holder = written
            for step in place[:-1]:
                holder = holder[step]
            key = place[-1]
            there = holder.get(key) if isinstance(holder, dict) else holder[key]
            if there != instead:
                APPLIED.add((example, of_status, str(place)))
            holder[key] = instead
    return written


def main():
    folder = pathlib.Path(sys.argv[1])
    calm = judge.Judge(os.environ["ACS_CONNECTION_STRING"])
    throttled = judge.Judge(os.environ["ACS_THROTTLED_CONNECTION_STRING"])
    only = os.environ.get("ONLY", "")
    replayed, absent = set(), set()
    for service, version, operation, path, parameters, file in examples(folder):
        if not file.exists():
            absent.add(f"{service}/{version}/{file.name}")
            continue
        replayed.add(file)
        for status, answer in json.loads(file.read_text(encoding="utf-8"))["responses"].items():
            case = case_of(service, operation, path, parameters, file)
            if int(status) >= 400:
                case.update(error(file.name, operation, int(status)))
                case.pop("has", None)
                case.pop("follow", None)
            case["name"] = f"{service}/{file.name} {status}"
            case["status"] = int(status)
            case["shape"] = expected(service, version, operation, file, status, answer)
            if only in f"{case['name']} {version}":
                (throttled if "until" in case else calm).run(case, version)
    there = {file for file in folder.glob("*/examples/*/*.json") if file.parts[-4] in VERSIONS}
    print(f"{len(replayed)} of {len(there)} examples replayed; named but not in the folder: {len(absent)}")
    forgotten = sorted(str(file.relative_to(folder)) for file in there - replayed)
    if forgotten:
        print("NOT REPLAYED " + ", ".join(forgotten))
    listed = {(example, status, str(place)) for example, status, place, *_ in exceptions.EXAMPLES}
    for stale in sorted(listed - APPLIED):
        print(f"AN EXCEPTION THAT CHANGES NOTHING  {stale}")
    wells = [one.report() for one in (calm, throttled)]
    sys.exit(0 if all(wells) and not forgotten and (only or listed <= APPLIED) else 1)


if __name__ == "__main__":
    main()
