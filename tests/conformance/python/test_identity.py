"""The official Identity SDK for Python, synchronous and asynchronous. See `judge.py`."""

import asyncio
import datetime
import os
from unittest import mock

from azure.communication.identity import CommunicationIdentityClient, CommunicationTokenScope
from azure.communication.identity.aio import CommunicationIdentityClient as AsyncCommunicationIdentityClient
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import ServiceRequestError

import judge
import tampering

ID_FORM = r"^8:acs:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"


def moment(expires_on):
    """The SDK hands `expiresOn` over as the text it got: seven fractional digits, which few parsers take."""
    whole, rest = expires_on.split(".")
    assert len(rest) == len("0000000+00:00") and rest.endswith("+00:00"), expires_on
    return datetime.datetime.strptime(whole + "+0000", "%Y-%m-%dT%H:%M:%S%z")


def minutes_left(expires_on):
    left = moment(expires_on) - datetime.datetime.now(datetime.timezone.utc)
    return left.total_seconds() / 60


class Identity:
    def setUp(self):
        self.client = self.connect()

    def connect(self, connection_string=judge.CONNECTION_STRING, **options):
        maker = self.sdk.classes[0].from_connection_string
        return self.closing(self.sdk.make(maker, connection_string, **options))

    def test_creates_a_user(self):
        user = self.client.create_user()
        self.assertRegex(user.properties["id"], ID_FORM)
        self.assertEqual(user.raw_id, user.properties["id"])
        other = self.client.create_user()
        self.assertNotEqual(user.properties["id"], other.properties["id"])
        resource = lambda u: u.properties["id"].split("_")[0]
        self.assertEqual(resource(user), resource(other))
        self.assertLessEqual({user.raw_id, other.raw_id}, set(judge.control("GET", "identities")["ids"]))

    def test_creates_a_user_and_a_token(self):
        user, token = self.client.create_user_and_token(["chat", CommunicationTokenScope.VOIP])
        self.assertRegex(user.properties["id"], ID_FORM)
        self.assertEqual(len(token.token.split(".")), 3)
        self.assertAlmostEqual(minutes_left(token.expires_on), 1440, delta=1)

    def test_creates_a_user_and_a_short_token(self):
        hour = datetime.timedelta(minutes=60)
        _, token = self.client.create_user_and_token(["chat"], token_expires_in=hour)
        self.assertAlmostEqual(minutes_left(token.expires_on), 60, delta=1)

    def test_issues_a_token_for_each_scope_and_validity(self):
        user = self.client.create_user()
        seen = set()
        for scope in ["chat", "voip", "chat.join", "chat.join.limited", "voip.join"]:
            for minutes in [60, 1440]:
                with self.subTest(scope=scope, minutes=minutes):
                    validity = datetime.timedelta(minutes=minutes)
                    token = self.client.get_token(user, [scope], token_expires_in=validity)
                    self.assertAlmostEqual(minutes_left(token.expires_on), minutes, delta=1)
                    self.assertNotIn(token.token, seen)
                    seen.add(token.token)

    def test_refuses_a_validity_out_of_range(self):
        user = self.client.create_user()
        for minutes in [59, 1441]:
            validity = datetime.timedelta(minutes=minutes)
            for what, call in [
                ("issue", lambda: self.client.get_token(user, ["chat"], token_expires_in=validity)),
                ("create", lambda: self.client.create_user_and_token(["chat"], token_expires_in=validity)),
            ]:
                with self.subTest(minutes=minutes, what=what):
                    error = self.refused(400, call).error
                    self.assertEqual((error.code, error.target), ("ValidationError", "ExpiresInMinutes"))
                    self.assertEqual(
                        error.message,
                        f"ExpiresInMinutes value {minutes} is invalid. "
                        "Value must be within the [60, 1440] interval.",
                    )

    def test_refuses_a_token_without_scopes(self):
        user = self.client.create_user()
        error = self.refused(400, lambda: self.client.get_token(user, None)).error
        self.assertEqual(
            (error.code, error.target, error.message),
            ("ValidationError", "Scopes", "Scopes: The Scopes field is required."),
        )

    def test_revokes_tokens(self):
        user, _ = self.client.create_user_and_token(["chat"])
        self.assertIsNone(self.client.revoke_tokens(user))
        self.assertTrue(self.client.get_token(user, ["chat"]).token)

    def test_deletes_a_user(self):
        user = self.client.create_user()
        self.assertIsNone(self.client.delete_user(user))
        self.assertNotIn(user.raw_id, judge.control("GET", "identities")["ids"])
        self.refused(404, lambda: self.client.get_token(user, ["chat"]))
        self.refused(404, lambda: self.client.revoke_tokens(user))

    def test_exchanges_the_token_of_a_teams_user(self):
        exchange = self.client.get_token_for_teams_user
        token = exchange(judge.teams_token(minutes=30), judge.TEAMS_APP, judge.TEAMS_USER)
        self.assertEqual(len(token.token.split(".")), 3)
        self.assertAlmostEqual(minutes_left(token.expires_on), 30, delta=1)
        for app, user, target in [("", judge.TEAMS_USER, "AppId"), (judge.TEAMS_APP, "", "UserId")]:
            with self.subTest(target=target):
                error = self.refused(400, lambda: exchange(judge.teams_token(), app, user)).error
                self.assertEqual((error.code, error.target), ("ValidationError", target))
                self.assertEqual(error.message, f"{target}: The {target} field is required.")

    def test_refuses_a_teams_token_that_is_none(self):
        for token in ["", "no-token", "ey.ey.ey"]:
            with self.subTest(token=token):
                call = lambda: self.client.get_token_for_teams_user(token, "an-app", "a-person")
                error = self.refused(401, call).error
                self.assertEqual(
                    (error.code, error.message, error.target),
                    ("InvalidAccessToken", "Provided access token is not valid.", None),
                )

    def test_refuses_a_teams_token_before_it_looks_at_the_rest(self):
        error = self.refused(401, lambda: self.client.get_token_for_teams_user("", "", "")).error
        self.assertEqual(error.code, "InvalidAccessToken")

    def test_refuses_a_version_that_never_was(self):
        client = self.connect(api_version="2099-12-31")
        error = self.refused(400, client.create_user).error
        self.assertIn("2099-12-31", error.message)

    def test_the_token_credential_accepts_the_token(self):
        """The chat and calling SDKs read `exp` out of the token through this class."""
        from azure.communication.identity._shared.user_credential import CommunicationTokenCredential

        _, token = self.client.create_user_and_token(["chat"])
        read = CommunicationTokenCredential(token.token).get_token()
        self.assertEqual(read.expires_on, int(moment(token.expires_on).timestamp()))

    def test_answers_with_the_headers_of_the_service(self):
        seen = []
        self.client.create_user(
            headers={"x-ms-client-request-id": "8f1b9a3c-0000-4000-8000-00000000000a"},
            raw_response_hook=lambda response: seen.append(response.http_response),
        )
        headers = seen[0].headers
        self.assertEqual(seen[0].status_code, 201)
        self.assertEqual(headers["x-ms-client-request-id"], "8f1b9a3c-0000-4000-8000-00000000000a")
        self.assertIn("2023-10-01", headers["api-supported-versions"].split(", "))
        self.assertEqual(headers["Content-Type"], "application/json; charset=utf-8")
        self.assertTrue(headers["MS-CV"])

    def test_takes_either_key_until_it_is_rotated(self):
        second = self.connect(judge.rotate("secondary"))
        self.assertRegex(second.create_user().raw_id, ID_FORM)
        third = self.connect(judge.rotate("secondary"))
        self.denied(second.create_user)
        for client in (third, self.client):
            self.assertRegex(client.create_user().raw_id, ID_FORM)

    def test_takes_a_key_credential(self):
        endpoint, key = judge.endpoint_and_key()
        client = self.closing(self.sdk.make(self.sdk.classes[0], endpoint, AzureKeyCredential(key)))
        self.assertRegex(client.create_user().raw_id, ID_FORM)

    def test_waits_out_a_429(self):
        user = self.client.create_user()
        for operation, call in [
            ("create_identity", self.client.create_user),
            ("issue_token", lambda: self.client.get_token(user, ["chat"])),
            ("revoke_tokens", lambda: self.client.revoke_tokens(user)),
            ("delete_identity", lambda: self.client.delete_user(user)),
        ]:
            with self.subTest(operation=operation):
                self.waits_out(operation, call)

    def test_leaves_an_orphan_when_the_sdk_repeats_a_creation(self):
        """Creating is not idempotent: the answer is lost after the first user was made, and the SDK makes another."""
        before = judge.control("GET", "identities")["alive"]
        judge.fault("create_identity", 503, retry_after=1, commit="after")
        self.client.create_user()
        self.assertEqual(judge.control("GET", "identities")["alive"] - before, 2)

    def test_denies_a_wrong_key(self):
        client = self.connect(judge.with_a_wrong_key())
        self.denied(lambda: client.create_user_and_token(["chat"]))

    def test_denies_a_body_changed_after_signing(self):
        change = tampering.transport(tampering.change_body, self.asynchronous)
        client = self.connect(transport=change)
        self.denied(
            lambda: client.create_user_and_token(["chat"]),
            "Request 'x-ms-content-sha256' differs from generated content hash.",
        )

    def test_denies_an_old_date_well_signed(self):
        change = tampering.transport(tampering.sign_an_old_date, self.asynchronous)
        client = self.connect(transport=change)
        call = lambda: client.create_user_and_token(["chat"])
        self.denied(call, "greater than the allowed margin of 5 minutes")


class Sync(Identity, judge.Judge):
    asynchronous = False
    sdk = judge.Sdk("azure-communication-identity", "sync", [CommunicationIdentityClient])

    def test_the_sdk_trusts_the_emulator_through_the_environment_alone(self):
        """Of the synchronous client only: the other reads its variable once, when it is loaded."""
        untold = {name: value for name, value in os.environ.items() if name != "REQUESTS_CA_BUNDLE"}
        with mock.patch.dict(os.environ, untold, clear=True):
            client = self.connect(retry_total=0)
            with self.assertRaisesRegex(ServiceRequestError, "(?i)certificate.verify.failed"):
                client.create_user()


class Async(Identity, judge.Judge):
    asynchronous = True
    sdk = judge.Sdk("azure-communication-identity", "async", [AsyncCommunicationIdentityClient])

    def test_creates_many_users_at_once(self):
        client = self.client.unwatched()

        async def create():
            return await asyncio.gather(*(client.create_user_and_token(["chat"]) for _ in range(40)))

        made = judge.LOOP.run_until_complete(create())
        self.assertEqual(len({user.raw_id for user, _ in made}), 40)
        self.assertEqual(len({token.token for _, token in made}), 40)
