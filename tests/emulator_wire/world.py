"""Live things that a case needs, made when first asked for: identities, tokens, threads, messages, mails, reports.

Names in braces in a case stand for them. Everything is made over the wire, in one version each. Used by every judge here.
"""
import re
import time
import urllib.parse
import uuid

import wire

PREVIEW = "api-version=2025-03-02-preview"
SMS = "api-version=2026-01-23"
EMAIL = "api-version=2025-09-01"
CHAT = "api-version=2024-03-07"
SENDER = "+18005550100"


class World:
    """Live things by name, each made when first asked for; another world has others."""

    def __init__(self, connection):
        self.wire = connection
        self.made = {}
        self.tokens = {}

    def __getitem__(self, name):
        if name not in self.made:
            maker = getattr(self, f"make_{name}", None)
            self.made[name] = maker() if maker else self.user(name)
        return self.made[name]

    def good(self, method, target, body=None, bearer=None, headers=None):
        answer = self.wire.send(method, target, body, headers=headers, bearer=bearer)
        if answer.status >= 300:
            raise AssertionError(f"to prepare: {method} {target.split('?')[0]}: {answer.shown()}")
        return answer.json() if answer.body else None

    # -- identities

    def user(self, name, scopes=("chat",)):
        body = {"createTokenWithScopes": list(scopes)}
        made = self.good("POST", f"/identities?{PREVIEW}", body)
        self.tokens[name] = made["accessToken"]["token"]
        return made["identity"]["id"]

    def make_voice(self):
        return self.user("voice", ["voip"])

    def make_joiner(self):
        return self.user("joiner", ["chat.join"])

    def make_identity(self):
        return self.good("POST", f"/identities?{PREVIEW}")["identity"]["id"]

    def make_custom_id(self):
        return f"customer-{uuid.uuid4()}"

    def make_known_identity(self):
        body = {"customId": self["custom_id"], "createTokenWithScopes": ["chat"]}
        return self.good("POST", f"/identities?{PREVIEW}", body)["identity"]["id"]

    def make_resource(self):
        return self["identity"].removeprefix("8:acs:").split("_")[0]

    def make_unknown_user(self):
        """Well-formed, of this resource, and never made."""
        return f"8:acs:{self['resource']}_00000001-0000-0000-0000-0000{uuid.uuid4().hex[:8]}"

    def make_foreign_user(self):
        return f"8:acs:{uuid.uuid4()}_00000001-0000-0000-0000-000000000000"

    # -- Entra

    def make_uuid(self):
        return str(uuid.uuid4())

    make_tenant = make_object = make_client = make_uuid

    def make_assigned_object(self):
        name = str(uuid.uuid4())
        body = {"principalType": "user", "tenantId": self["tenant"], "clientIds": [self["client"]]}
        self.good("PUT", f"/access/entra/assignments/{name}?{PREVIEW}", body)
        return name

    def make_extension_object(self):
        name = str(uuid.uuid4())
        body = {"principalType": "user", "clientIds": [self["client"]]}
        self.good("PUT", f"/access/teamsExtension/tenants/{self['tenant']}/assignments/{name}?{PREVIEW}", body)
        return name

    # The emulator's test issuer: its tenant, the application that users sign in to, and its user.
    ISSUER_TENANT = "00000000-ac5b-4000-8000-000000000000"

    def make_teams_app(self):
        return "00000000-ac5b-4000-8000-000000000003"

    def make_teams_user(self):
        return "00000000-ac5b-4000-8000-000000000021"

    def entra(self, scope):
        """A token of a person from the test issuer."""
        form = urllib.parse.urlencode({
            "grant_type": "urn:acs-broker:emulator:user", "client_id": self["teams_app"],
            "client_secret": "emulator-client-secret", "object_id": self["teams_user"], "scope": scope,
        })
        headers = {"content-type": "application/x-www-form-urlencoded"}
        target = f"/{self.ISSUER_TENANT}/oauth2/v2.0/token"
        answer = self.wire.send("POST", target, form.encode(), headers=headers, signed=False)
        if answer.status != 200:
            raise AssertionError(f"to prepare: a token of the test issuer: {answer.shown()}")
        return answer.json()["access_token"]

    def make_teams_token(self):
        return self.entra("https://auth.msft.communication.azure.com/.default")

    def assign(self, path, tenant_is_known, kind="user"):
        body = {"principalType": kind, "clientIds": [self["teams_app"]]}
        if not tenant_is_known:
            body["tenantId"] = self.ISSUER_TENANT
        self.good("PUT", f"{path}?{PREVIEW}", body)

    def make_extension_token(self):
        path = f"/access/teamsExtension/tenants/{self.ISSUER_TENANT}/assignments/{self['teams_user']}"
        self.assign(path, tenant_is_known=True)
        return self.entra("https://auth.msft.communication.azure.com/TeamsExtension.ManageCalls")

    def make_entra_token(self):
        self.assign(f"/access/entra/assignments/{self['teams_user']}", tenant_is_known=False)
        return self.entra("https://communication.azure.com/clients/.default")

    # -- SMS and mail

    def make_now(self):
        return wire.http_date()

    def make_report(self):
        """An SMS whose delivery report is there."""
        body = {
            "from": SENDER, "smsRecipients": [{"to": "+14255550123"}], "message": "The parcel is on its way.",
            "smsSendOptions": {"enableDeliveryReport": True, "tag": "parcel"},
        }
        name = self.good("POST", f"/sms?{SMS}", body)["value"][0]["messageId"]
        target = f"/deliveryReports/{wire.encoded(name)}?{SMS}"
        self.until(lambda: self.wire.send("GET", target).status == 200, "the delivery report")
        return name

    def mail(self, address="jan@example.org"):
        body = {
            "senderAddress": "news@example.com", "content": {"subject": "Opening hours", "plainText": "We open at nine."},
            "recipients": {"to": [{"address": address}]},
        }
        return self.good("POST", f"/emails:send?{EMAIL}", body)["id"]

    def make_operation(self):
        return self.mail()

    def settled(self, operation):
        target = f"/emails/operations/{operation}?{EMAIL}"
        self.until(lambda: self.wire.send("GET", target).json()["status"] not in ("NotStarted", "Running"), "the end of the send")
        return operation

    def make_sent_operation(self):
        return self.settled(self.mail())

    def make_failed_operation(self):
        return self.settled(self.mail("drop@magic.example.net"))

    def until(self, condition, what):
        end = time.monotonic() + 10
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"{what} did not come within ten seconds")
            time.sleep(0.02)

    # -- chat

    def participant(self, name, display=None):
        identifier = {"rawId": self[name], "communicationUser": {"id": self[name]}}
        return {"communicationIdentifier": identifier, "displayName": display or name.capitalize()}

    def thread_of(self, *names):
        body = {"topic": "Garden fence", "participants": [self.participant(name) for name in names]}
        self["alice"]
        made = self.good("POST", f"/chat/threads?{CHAT}", body, self.tokens["alice"])
        return made["chatThread"]["id"]

    def make_thread(self):
        return self.thread_of("alice", "bob", "carol")

    def say(self, thread, name="alice", **extra):
        body = {"content": "Shall it be green?", "senderDisplayName": name.capitalize(), **extra}
        target = f"/chat/threads/{wire.encoded(thread)}/messages?{CHAT}"
        return self.good("POST", target, body, self.tokens[name])["id"]

    def make_plain_message(self):
        return self.say(self["thread"])

    def make_message(self):
        return self.say(self["thread"], metadata={"colour": "green"})

    def make_pinned_message(self):
        """The last of enough messages for two pages."""
        return [self.say(self["thread"]) for _ in range(6)][-1]

    def make_read_message(self):
        """A message that all three have read."""
        message, thread = self["plain_message"], self["thread"]
        for name in ("alice", "bob", "carol"):
            target = f"/chat/threads/{wire.encoded(thread)}/readReceipts?{CHAT}"
            self.good("POST", target, {"chatMessageId": message}, self.tokens[name])
        return message

    def make_edited_message(self):
        message = self.say(self["thread"], metadata={"colour": "green"})
        self.on_message("PATCH", message, {"content": "Shall it be blue?", "metadata": {"shade": "light"}})
        return message

    def make_deleted_message(self):
        message = self.say(self["thread"])
        self.on_message("DELETE", message)
        return message

    def on_message(self, method, message, body=None):
        target = f"/chat/threads/{wire.encoded(self['thread'])}/messages/{message}?{CHAT}"
        headers = {"content-type": "application/merge-patch+json"} if body else None
        self.good(method, target, body, self.tokens["alice"], headers)

    def make_thinned_thread(self):
        """A thread that somebody was removed from."""
        target = f"/chat/threads/{wire.encoded(self['thread'])}/participants/:remove?{CHAT}"
        self.good("POST", target, {"communicationUser": {"id": self["bob"]}}, self.tokens["alice"])
        return self["thread"]

    def make_deleted_thread(self):
        self.good("DELETE", f"/chat/threads/{wire.encoded(self['thread'])}?{CHAT}", bearer=self.tokens["alice"])
        return self["thread"]

    def make_keyed_thread(self):
        """A thread made under a repeatability id."""
        self["alice"]
        headers = {"repeatability-request-id": self["uuid"]}
        made = self.good("POST", f"/chat/threads?{CHAT}", {"topic": "Rowing club"}, self.tokens["alice"], headers)
        return made["chatThread"]["id"]

    def make_many_threads(self):
        for _ in range(6):
            self.say(self.thread_of("alice", "bob"))
        return ""

    # -- filling in

    def filled(self, value, quote=False):
        """The value with live things for the names in braces."""
        if isinstance(value, dict):
            return {self.filled(key): self.filled(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.filled(each) for each in value]
        if not isinstance(value, str):
            return value
        put = wire.encoded if quote else str
        return re.sub(r"\{([a-z_]+)\}", lambda found: put(self[found[1]]), value)
