"""Where a request differs on purpose from what a case asks for, and why. Facts only; `judge` applies them."""
from operations import PATHS, service_of

CHAT = [name for name in PATHS if service_of(name) == "chat"]
# What differs on purpose from what a case says: operation, what is done to which key, and why.
DELIBERATE = {
    ("send_sms", "adds", "smsRecipients[].repeatabilityRequestId"): "each recipient has one: a repeated send is done once",
    ("send_sms", "adds", "smsRecipients[].repeatabilityFirstSent"): "goes with the id, which is refused without it",
    ("send_sms", "adds", "smsSendOptions"): "says always whether a report is wanted",
    ("send_sms", "leaves out", "smsSendOptions.deliveryReportTimeoutInSeconds"): "2021-03-07 does not know it",
    ("send_sms", "leaves out", "smsSendOptions.messagingConnect"): "2021-03-07 does not know it",
    ("send_message", "adds", "type"): "says always whether it is text or HTML",
    ("create_thread", "renames", "idempotency-token"): "the specifications call the header repeatability-request-id",
    ("get_email_operation", "spells", "operationId"): "an id is written in lower case, as RFC 9562 wants it",
    ("revoke_tokens", "leaves out", "content-type"): "there is no body",
    ("delete_identity", "leaves out", "content-type"): "there is no body",
    # The examples of the other version are the same but for what is left out above.
    ("send_sms", "version", "2026-01-23"): "sending needs no more than 2021-03-07",
    ("send_email", "version", "2023-03-31"): "inline images need 2025-09-01",
    ("get_email_operation", "version", "2023-03-31"): "as the sending",
    **{(name, "version", "2024-03-07"): "both versions of chat share their examples" for name in CHAT},
}
# Differences that only published examples show.
ONLY_PUBLISHED = ("renames", "version", "leaves out", "spells")
