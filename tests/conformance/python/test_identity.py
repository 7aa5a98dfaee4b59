"""The official Python SDK, unmodified, against the emulator over HTTPS.

Run by `tests/conformance.rs`, which starts the emulator and says in the environment where it is:
ACS_CONNECTION_STRING (https) and REQUESTS_CA_BUNDLE (the emulator's CA). Nothing here knows the emulator's insides.
"""

import base64
import datetime
import hashlib
import hmac
import os
import unittest
from urllib.parse import urlparse

from azure.communication.identity import CommunicationIdentityClient, CommunicationTokenScope
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.core.pipeline.transport import RequestsTransport

CONNECTION_STRING = os.environ["ACS_CONNECTION_STRING"]
DENIED = "Denied by the resource provider."
ID_FORM = r"^8:acs:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"


def client(connection_string=CONNECTION_STRING, **options):
    return CommunicationIdentityClient.from_connection_string(connection_string, **options)


def endpoint_and_key():
    parts = dict(part.split("=", 1) for part in CONNECTION_STRING.split(";"))
    return parts["endpoint"], parts["accesskey"]


def moment(expires_on):
    """The SDK hands `expiresOn` over as the text it got: seven fractional digits, which few parsers take."""
    whole, rest = expires_on.split(".")
    assert len(rest) == len("0000000+00:00") and rest.endswith("+00:00"), expires_on
    return datetime.datetime.strptime(whole + "+0000", "%Y-%m-%dT%H:%M:%S%z")


def minutes_left(expires_on):
    left = moment(expires_on) - datetime.datetime.now(datetime.timezone.utc)
    return left.total_seconds() / 60


class ChangesBodyAfterSigning(RequestsTransport):
    """A transport, because it comes after every policy, the signing one included."""

    def send(self, request, **kwargs):
        assert "chat" in request.data, "there is something to change"
        request.data = request.data.replace("chat", "voip")
        return super().send(request, **kwargs)


class SignsOldDate(RequestsTransport):
    """Signs the request anew, properly, but with a date ten minutes past."""

    def send(self, request, **kwargs):
        _, key = endpoint_and_key()
        url = urlparse(request.url)
        old = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=10)
        date = old.strftime("%a, %d %b %Y %H:%M:%S GMT")
        content_hash = request.headers["x-ms-content-sha256"]
        text = f"{request.method}\n{url.path}?{url.query}\n{date};{url.netloc};{content_hash}"
        digest = hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()
        request.headers["x-ms-date"] = date
        request.headers["Authorization"] = (
            "HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature="
            + base64.b64encode(digest).decode()
        )
        return super().send(request, **kwargs)


class Identity(unittest.TestCase):
    def setUp(self):
        self.client = client()

    def test_creates_a_user(self):
        user = self.client.create_user()
        self.assertRegex(user.properties["id"], ID_FORM)
        other = self.client.create_user()
        self.assertNotEqual(user.properties["id"], other.properties["id"])
        resource = lambda u: u.properties["id"].split("_")[0]
        self.assertEqual(resource(user), resource(other))

    def test_creates_a_user_and_a_token(self):
        user, token = self.client.create_user_and_token(["chat", CommunicationTokenScope.VOIP])
        self.assertRegex(user.properties["id"], ID_FORM)
        self.assertEqual(len(token.token.split(".")), 3)
        self.assertAlmostEqual(minutes_left(token.expires_on), 1440, delta=1)

    def test_creates_a_user_and_a_short_token(self):
        _, token = self.client.create_user_and_token(["chat"], token_expires_in=datetime.timedelta(minutes=60))
        self.assertAlmostEqual(minutes_left(token.expires_on), 60, delta=1)

    def test_issues_a_token_for_each_scope_and_validity(self):
        user = self.client.create_user()
        seen = set()
        for scope in ["chat", "voip", "chat.join", "chat.join.limited", "voip.join"]:
            for minutes in [60, 1440]:
                with self.subTest(scope=scope, minutes=minutes):
                    token = self.client.get_token(
                        user, [scope], token_expires_in=datetime.timedelta(minutes=minutes)
                    )
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
                    with self.assertRaises(HttpResponseError) as raised:
                        call()
                    error = raised.exception
                    self.assertEqual(error.status_code, 400)
                    self.assertEqual(error.error.code, "ValidationError")
                    self.assertEqual(error.error.target, "ExpiresInMinutes")
                    self.assertEqual(
                        error.error.message,
                        f"ExpiresInMinutes value {minutes} is invalid. "
                        "Value must be within the [60, 1440] interval.",
                    )

    def test_refuses_a_token_without_scopes(self):
        user = self.client.create_user()
        with self.assertRaises(HttpResponseError) as raised:
            self.client.get_token(user, None)
        error = raised.exception
        self.assertEqual(
            (error.status_code, error.error.code, error.error.target, error.error.message),
            (400, "ValidationError", "Scopes", "Scopes: The Scopes field is required."),
        )

    def test_revokes_tokens(self):
        user, _ = self.client.create_user_and_token(["chat"])
        self.assertIsNone(self.client.revoke_tokens(user))
        self.assertTrue(self.client.get_token(user, ["chat"]).token)

    def test_deletes_a_user(self):
        user = self.client.create_user()
        self.assertIsNone(self.client.delete_user(user))
        with self.assertRaises(HttpResponseError) as raised:
            self.client.get_token(user, ["chat"])
        self.assertEqual(raised.exception.status_code, 404)

    def test_token_credential_accepts_the_token(self):
        """The chat and calling SDKs read `exp` out of the token through this class."""
        from azure.communication.identity._shared.user_credential import CommunicationTokenCredential

        _, token = self.client.create_user_and_token(["chat"])
        read = CommunicationTokenCredential(token.token).get_token()
        self.assertEqual(read.expires_on, int(moment(token.expires_on).timestamp()))


class Refusals(unittest.TestCase):
    def refused(self, refused_client, message):
        with self.assertRaises(ClientAuthenticationError) as raised:
            refused_client.create_user_and_token(["chat"])
        error = raised.exception
        self.assertEqual((error.status_code, error.error.code), (401, "Denied"))
        self.assertIn(message, error.error.message)

    def test_a_wrong_key(self):
        endpoint, _ = endpoint_and_key()
        wrong = base64.b64encode(b"another key").decode()
        self.refused(client(f"endpoint={endpoint};accesskey={wrong}"), DENIED)

    def test_a_body_changed_after_signing(self):
        self.refused(
            client(transport=ChangesBodyAfterSigning()),
            "Request 'x-ms-content-sha256' differs from generated content hash.",
        )

    def test_an_old_date(self):
        self.refused(client(transport=SignsOldDate()), "greater than the allowed margin of 5 minutes")


if __name__ == "__main__":
    unittest.main()
