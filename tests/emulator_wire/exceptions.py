"""Where recorded answers of the real service, or its other published words, contradict a published schema or example.

The only place that loosens anything; every entry carries its reason. Read by `schemas` and `published`.
"""

_TEXT = {"type": "string"}
_NULL = {"type": "null"}


def _object(properties, required):
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


CHAT_ERROR = _object(
    {"CommunicationError": _object({"Code": _TEXT, "Message": _TEXT, "Details": {"type": "array", "maxItems": 0}}, ["Code", "Details"])},
    ["CommunicationError"],
)
VERSION_CODES = ["ApiVersionUnspecified", "InvalidApiVersion", "UnsupportedApiVersion", "AmbiguousApiVersion"]
VERSION_ERROR = _object(
    {"error": _object({"code": {"enum": VERSION_CODES}, "message": _TEXT, "innerError": _NULL}, ["code", "message", "innerError"])},
    ["error"],
)
ERROR = _object({"error": _object({"code": _TEXT, "message": _TEXT}, ["code", "message"])}, ["error"])
EMAIL_ERROR = _object(
    {
        "error": _object(
            {"code": _TEXT, "message": _TEXT, "target": {"type": ["string", "null"]}, "details": _NULL, "innererror": _NULL},
            ["code", "message", "target", "details", "innererror"],
        )
    },
    ["error"],
)
SMS_2021_BAD_REQUEST = {"type": "object", "minProperties": 1, "additionalProperties": {"type": "array", "minItems": 1, "items": _TEXT}}

# What is validated instead of the published schema: (what, whether it applies, schema, reason). The first that applies.
# `call` has service, operation, version, status; `body` is the parsed answer.
SCHEMAS = [
    (
        "version errors",
        lambda call, body: call.status == 400 and isinstance(body.get("error"), dict) and body["error"].get("code") in VERSION_CODES,
        VERSION_ERROR,
        "Published examples of SMS 2026-01-23 show innerError, spelt so and null, where its schema wants an object and the "
        "other services' schemas want innererror; the framework makes these errors, whatever the service.",
    ),
    (
        "chat errors",
        lambda call, body: call.service == "chat" and call.status >= 400,
        CHAT_ERROR,
        "Recorded answers: Chat's errors are {CommunicationError: {Code, Message?, Details: []}}, not error.code as published, "
        "on 400 and 404 too, which are not published at all.",
    ),
    (
        "email errors",
        lambda call, body: call.service == "email" and call.status >= 400,
        EMAIL_ERROR,
        "Seen by users of the service: target, details and innererror are always there and null; the published schema has no "
        "innererror and no nulls.",
    ),
    (
        "SMS 2021-03-07, bad request",
        lambda call, body: call.operation == "send_sms" and call.version == "2021-03-07" and call.status == 400 and "error" not in body,
        SMS_2021_BAD_REQUEST,
        "Recorded answers: {\"From\": [\"…\"]} without an envelope; nothing is published.",
    ),
    (
        "SMS 2021-03-07, other errors",
        lambda call, body: call.operation == "send_sms" and call.version == "2021-03-07" and call.status >= 400,
        ERROR,
        "Recorded answers: 401 with {error: {code, message}}; nothing is published.",
    ),
    (
        "SMS 2026-01-23, statuses that are not published",
        lambda call, body: call.service == "sms" and call.status >= 400 and call.published is None,
        ERROR,
        "401 for delivery reports, and 429 and 5xx for all, have no published schema; the one of 401 elsewhere is taken.",
    ),
]

# Properties that may be null although the published schema gives them a type: (service, statuses, property, reason).
NULLS = [
    ("email", range(200, 300), "error", "Recorded answers: error is there and null until a send has failed."),
]

# Published examples: (example, status, place in the shape, shape there, reason).
_REFUSED = {"to": "string", "httpStatusCode": "integer", "errorMessage": "string", "successful": "boolean"}
_JOINED = {
    "communicationIdentifier": {"rawId": "string", "communicationUser": {"id": "string"}}, "displayName?": "string",
    "shareHistoryTime?": "time",
}
_REFUSAL = "The example gives a refused recipient a messageId; recorded answers and the example of 2026-01-23 do not."
EXAMPLES = [
    ("sms/2021-03-07/send.json", "202", ["value", 4], _REFUSED, _REFUSAL),
    ("sms/2021-03-07/send.json", "202", ["value", 6], {**_REFUSED, "repeatabilityResult": "string"}, _REFUSAL),
    (
        "chat/2024-03-07/Messages_ListChatMessagesWithPageSize.json", "200", ["value", 2, "content", "participants"], [_JOINED],
        "The example's participants were added without a name and a time; the schema has both.",
    ),
    (
        "email/2023-03-31/SendEmail.json", "202", ["error"], "null",
        "Recorded answers: error is there and null; the example leaves it out.",
    ),
    ("email/2025-09-01/SendEmail.json", "202", ["error"], "null", "As above."),
    ("email/2023-03-31/GetOperationStatusReturnsNonTerminalStatus.json", "200", ["error"], "null", "As above."),
    ("email/2023-03-31/GetOperationStatusReturnsSuccessTerminalStatus.json", "200", ["error"], "null", "As above."),
    (
        "email/2023-03-31/GetOperationStatusReturnsFailedTerminalStatus.json", "200", ["error"],
        {"code": "string", "message": "string", "target?": "string|null", "details?": "null", "additionalInfo?": "null", "innererror?": "null"},
        "Email's errors carry their empty properties as nulls; the example leaves them out.",
    ),
]

CHAT_ERROR_SHAPE = {"CommunicationError": {"Code": "string", "Message?": "string", "Details": ["exactly"]}}

# Published examples of events: (kind or None for all, key of the data, shape there or None for "may be there", reason).
_OLD = "Older name beside the newer …CommunicationIdentifier: the examples have it, the schema of the event does not."
EVENTS = [
    (None, ["senderId"], None, _OLD),
    (None, ["recipientId"], None, _OLD),
    (None, ["createdBy"], None, _OLD),
    (None, ["editedBy"], None, _OLD),
    (None, ["deletedBy"], None, _OLD),
    (None, ["members"], None, _OLD),
    ("ChatMessageReceivedInThread", ["version"], "integer", "The example has text where the event's own schema has a 64-bit integer."),
    ("ChatMessageEditedInThread", ["version"], "integer", "As above."),
    ("ChatMessageDeletedInThread", ["version"], "integer", "As above."),
    (
        "EmailDeliveryReportReceived", ["deliveryStatusDetails?"], {"statusMessage": "string"},
        "The example of one schema has it and that of the other has not.",
    ),
    (
        "EmailEngagementTrackingReportReceived", ["recipient?"], "string",
        "The event's own schema has it; the examples have not.",
    ),
    ("SMSDeliveryReportReceived", ["tag?"], "string", "The event's own schema has it; the examples were of a message without one."),
    ("SMSReceived", ["segmentCount?"], "integer", "The event's documentation has it; schema and examples have not."),
]
# The keys of these are compared without case: the examples write MessageId, the schema messageId, the documentation Tag.
WITHOUT_CASE = ("SMSReceived", "SMSDeliveryReportReceived")
# Properties that examples or documentation of an event name and its published schema does not: kind or None, key.
EVENT_EXTRAS = [(None, key) for key in ("senderId", "recipientId", "createdBy", "editedBy", "deletedBy", "members")] + [
    ("SMSReceived", "segmentCount"),
    ("ChatThreadParticipantAdded", "createTime"),
    ("ChatThreadParticipantRemoved", "createTime"),
]
# Values whose schema is wrong: `properties` is a map of objects in the schema, and {"topic": "text"} in every example.
EVENT_MAPS = {"properties": {"type": "object", "additionalProperties": {"type": "string"}}}
