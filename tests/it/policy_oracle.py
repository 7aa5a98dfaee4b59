"""What a policy says about each of thousands of calls, worked out from the reference of the file alone.

Reads the policy named on the command line and prints one cell per line as JSON. Shares nothing with the broker: the
rules are written here a second time, from docs/policy.md, as sets and plain comparisons.
"""

import itertools
import json
import sys
import tomllib

POLICY = tomllib.load(open(sys.argv[1], "rb"))

SERVICES = {
    "TokenService": "IssueToken RefreshToken RevokeTokens",
    "IdentityService": "ResolveIdentity GetIdentity DeleteIdentity ListIdentities ImportIdentities",
    "SmsService": "SendSms GetSms CheckSmsOptOuts AddSmsOptOuts RemoveSmsOptOuts",
    "EmailService": "SendEmail GetEmail",
    "ChatService": "CreateChatThread GetChatThread ListChatThreads UpdateChatThread DeleteChatThread "
    "AddChatParticipants ListChatParticipants RemoveChatParticipant SendChatMessage GetChatMessage "
    "ListChatMessages UpdateChatMessage DeleteChatMessage SendReadReceipt ListReadReceipts SendTypingNotification",
    "EventService": "WatchEvents",
}
RPCS = [f"{service}/{rpc}" for service, rpcs in SERVICES.items() for rpc in rpcs.split()]
SCOPES = ["chat", "chat.join", "chat.join.limited", "voip", "voip.join"]

# Who calls: a proof each, and those that are almost one.
PROOFS = [
    "spiffe=spiffe://corp/orders", "dns=WEB.svc", "mesh=mail", "token=cluster=admin", "token=elsewhere=importer",
    "mesh=idle",
    "spiffe=spiffe://corp/Orders", "dns=web.svc.", "mesh=spiffe://corp/orders", "token=elsewhere=admin", "",
]
USERS = ["shop:1", "Shop:1", "shop", "web/1", "crm:1", "anybody"]
DEFAULT = {"SmsService": "+18005550100", "EmailService": "noreply@contoso.example"}
SENDERS = {
    "SmsService": ["", "+18005550100", "+18005550109", "+18015550100", "contoso", "Contoso2"],
    "EmailService": ["", "NOREPLY@Contoso.example", "news@SHOP.example", "old@shop.example", "x@notcontoso.example"],
}
SCOPE_SETS = [[one] for one in SCOPES] + [
    ["chat", "voip.join"], ["voip.join", "chat"], ["chat", "voip"], ["chat.join", "chat.join.limited"], SCOPES,
]
VALIDITIES = [None, 60, 61, 720, 721, 1440]


def who(proof):
    kind, _, name = proof.partition("=")
    for caller in POLICY["callers"]:
        for match in caller["match"]:
            if kind == "token":
                issuer, _, subject = name.partition("=")
                if match.get("issuer") == issuer and match.get("subject") == subject:
                    return caller
            elif kind == "dns" and match.get("dns", "").lower() == name.lower() != "":
                return caller
            elif kind in ("spiffe", "mesh") and match.get(kind) == name:
                return caller
    return None


def minutes(text):
    return {"1h": 60, "12h": 720, "24h": 1440}[text]


def wild(patterns, name):
    name = name.lower()
    for pattern in map(str.lower, patterns):
        head, star, tail = pattern.partition("*")
        if (star and name.startswith(head) and name.endswith(tail)) or name == pattern:
            return True
    return False


def knows(caller, user):
    return any(prefix == "*" or user.startswith(prefix) for prefix in caller.get("user_prefixes", []))


def verdict(cell):
    caller, rpc = who(cell["proof"]), cell["rpc"]
    if caller is None:
        return "unauthenticated"
    service = rpc.split("/")[0]
    if not {rpc, service + "/*", "*"} & set(caller.get("rpcs", [])):
        return "deny:rpc:" + rpc
    if service == "ChatService" and cell["user"] is None:
        if not caller.get("service_identity", False):
            return "deny:service_identity"
    if cell["user"] is not None and not knows(caller, cell["user"]):
        return "deny:user"
    if not all(knows(caller, other) for other in cell["others"]):
        return "deny:user"
    if rpc.endswith("/ListIdentities") and "*" not in caller.get("user_prefixes", []):
        return "deny:user:*"
    lacking = [scope for scope in SCOPES if scope in cell["scopes"] and scope not in caller.get("scopes", [])]
    if lacking:
        return "deny:scope:" + lacking[0]
    if cell["validity"] and cell["validity"] > minutes(caller.get("max_validity", "24h")):
        return "invalid:validity"
    if cell["sender"] is not None:
        sender = cell["sender"] or DEFAULT[service]
        key = {"SmsService": "sms_senders", "EmailService": "email_senders"}[service]
        if not wild(caller.get(key, []), sender):
            return "deny:" + key[:-1]
    return "allow"


def cells():
    blank = {"user": None, "others": [], "scopes": [], "validity": None, "sender": None}
    for proof, rpc in itertools.product(PROOFS, RPCS):
        base = blank | {"proof": proof, "rpc": rpc}
        service, name = rpc.split("/")
        if name in ("IssueToken", "RefreshToken"):
            for user, scopes, validity in itertools.product(USERS, SCOPE_SETS, VALIDITIES):
                yield base | {"user": user, "scopes": scopes, "validity": validity}
        elif name in ("ListIdentities", "GetSms", "GetEmail", "WatchEvents"):
            yield base
        elif service in ("TokenService", "IdentityService"):
            for user in USERS:
                yield base | {"user": user}
        elif service in SENDERS:
            for sender in SENDERS[service]:
                yield base | {"sender": sender}
        else:
            others = [[]]
            if name in ("CreateChatThread", "AddChatParticipants"):
                others = [[], ["shop:2"], ["shop:2", "crm:2"], ["crm:2"]]
            elif name == "RemoveChatParticipant":
                others = [["shop:2"], ["crm:2"]]
            for user, other in itertools.product([None] + USERS, others):
                yield base | {"user": user, "others": other}


for cell in cells():
    print(json.dumps(cell | {"verdict": verdict(cell)}))
