"""The official Email SDK for Python, synchronous and asynchronous. See `judge.py`."""

import base64
import uuid

from azure.communication.email import EmailClient
from azure.communication.email.aio import EmailClient as AsyncEmailClient
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import HttpResponseError
from azure.core.rest import HttpRequest

import judge

SENDER = "DoNotReply@contoso.example.com"
UNLINKED = "DoNotReply@not-linked.example.net"
#: An address that stands for an outcome: see docs/emulator-magic.md.
SUPPRESSED = "suppressed@magic.example.net"
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def mail(to="ada@example.com", **more):
    return {
        "senderAddress": SENDER,
        "content": {"subject": "Hello", "plainText": "Hello, Ada."},
        "recipients": {"to": [{"address": to}]},
        **more,
    }


def file(name, content_type, content, **more):
    encoded = base64.b64encode(content).decode()
    return {"name": name, "contentType": content_type, "contentInBase64": encoded, **more}


class Sending:
    def setUp(self):
        self.client = self.connect()

    def connect(self, connection_string=judge.CONNECTION_STRING, **options):
        maker = self.sdk.classes[0].from_connection_string
        return self.closing(self.sdk.make(maker, connection_string, **options))

    def get(self, operation, version="2025-09-01"):
        return self.client.send_request(
            HttpRequest("GET", f"/emails/operations/{operation}", params={"api-version": version})
        )

    def kept(self, operation):
        return judge.message(operation)

    def test_sends_and_polls_to_the_end(self):
        before = judge.calls("get_email_operation")
        poller = self.client.begin_send(mail())
        result = poller.result()
        self.assertEqual(result["status"], "Succeeded")
        self.assertIsNone(result["error"])
        self.assertTrue(poller.done())
        self.assertEqual(poller.status(), "Succeeded")
        self.assertGreater(judge.calls("get_email_operation"), before)
        uuid.UUID(result["id"])
        kept = self.kept(result["id"])
        self.assertEqual((kept["kind"], kept["from"], kept["to"]), ("email", SENDER, ["ada@example.com"]))
        self.assertEqual((kept["subject"], kept["text"]), ("Hello", "Hello, Ada."))

    def test_sends_everything_a_mail_can_have(self):
        person = lambda name: {"address": f"{name.lower()}@example.com", "displayName": name}
        text = "Grüße\n".encode()
        message = {
            "senderAddress": SENDER,
            "content": {"subject": "Grüße 👋", "plainText": "plain", "html": '<p>rich <img src="cid:pixel"></p>'},
            "recipients": {
                "to": [person("Ada"), person("Bob")],
                "cc": [person("Cleo")],
                "bcc": [person("Dan")],
            },
            "replyTo": [person("Erin")],
            "headers": {"X-Campaign": "seven"},
            "attachments": [
                file("note.txt", "text/plain", text),
                file("pixel.png", "image/png", PIXEL, contentId="pixel"),
            ],
            "userEngagementTrackingDisabled": True,
        }
        result = self.client.begin_send(message).result()
        self.assertEqual(result["status"], "Succeeded")
        kept = self.kept(result["id"])
        self.assertEqual(kept["subject"], "Grüße 👋")
        self.assertEqual(kept["to"], [f"{name}@example.com" for name in ("ada", "bob", "cleo", "dan")])
        self.assertEqual(kept["attachments"], 2)
        detail = kept["detail"]
        kept_person = lambda name: {"address": f"{name.lower()}@example.com", "display_name": name}
        self.assertEqual(detail["to"], [kept_person("Ada"), kept_person("Bob")])
        self.assertEqual(detail["cc"], [kept_person("Cleo")])
        self.assertEqual(detail["bcc"], [kept_person("Dan")])
        self.assertEqual(detail["reply_to"], [kept_person("Erin")])
        self.assertEqual(detail["headers"], {"X-Campaign": "seven"})
        self.assertEqual((detail["plain_text"], detail["html"]), ("plain", message["content"]["html"]))
        self.assertIs(detail["tracking_disabled"], True)
        files = [(f["name"], f["content_type"], f["content_id"], f["size"]) for f in detail["attachments"]]
        self.assertEqual(
            files,
            [("note.txt", "text/plain", None, len(text)), ("pixel.png", "image/png", "pixel", len(PIXEL))],
        )
        for number, content in enumerate([text, PIXEL]):
            path = f"emails/{result['id']}/attachments/{number}"
            self.assertEqual(judge.control("GET", path), content)

    def test_sends_without_to(self):
        recipients = {"cc": [{"address": "cleo@example.com"}], "bcc": [{"address": "dan@example.com"}]}
        result = self.client.begin_send(mail(recipients=recipients)).result()
        self.assertEqual(result["status"], "Succeeded")

    def test_sends_under_the_operation_id_of_the_caller_and_only_once(self):
        operation, to = str(uuid.uuid4()), f"{uuid.uuid4()}@example.com"
        for _ in range(2):
            result = self.client.begin_send(mail(to), operation_id=operation).result()
            self.assertEqual((result["id"], result["status"]), (operation, "Succeeded"))
        self.assertEqual([each["id"] for each in judge.messages(kind="email", to=to)], [operation])

    def test_goes_on_with_a_poller_that_was_put_aside(self):
        to = f"{uuid.uuid4()}@example.com"
        token = self.client.begin_send(mail(to)).continuation_token()
        result = self.client.begin_send(mail(to), continuation_token=token).result()
        self.assertEqual(result["status"], "Succeeded")
        self.assertEqual([each["id"] for each in judge.messages(kind="email", to=to)], [result["id"]])

    def test_answers_for_an_operation(self):
        operation = self.client.begin_send(mail()).result()["id"]
        response = self.get(operation)
        self.assertEqual(response.status_code, 200)
        self.assertEqual(response.json(), {"id": operation, "status": "Succeeded", "error": None})
        self.assertNotIn("Retry-After", response.headers)

    def test_knows_no_operation_that_never_was(self):
        response = self.get(uuid.uuid4())
        self.assertEqual(response.status_code, 404)
        self.assertTrue(response.json()["error"]["code"])
        self.assertEqual(response.headers["x-ms-error-code"], response.json()["error"]["code"])

    def test_polls_in_the_version_it_was_sent_in(self):
        client = self.connect(api_version="2023-03-31")
        self.assertEqual(client.begin_send(mail()).result()["status"], "Succeeded")
        versions = {
            call["version"]
            for call in judge.control("GET", "calls/log?limit=2")["calls"]
            if call["operation"] in ("send_email", "get_email_operation")
        }
        self.assertEqual(versions, {"2023-03-31"})

    def test_fails_when_all_recipients_are_suppressed(self):
        poller = self.client.begin_send(mail(SUPPRESSED))
        with self.assertRaises(HttpResponseError) as raised:
            poller.result()
        answer = raised.exception.response.json()
        self.assertEqual(answer["status"], "Failed")
        self.assertEqual(answer["error"]["code"], "EmailDroppedAllRecipientsSuppressed")
        self.assertEqual(poller.status(), "Failed")

    def refused_as(self, status, code, message):
        error = self.refused(status, lambda: self.client.begin_send(message))
        self.assertEqual(error.error.code, code)
        self.assertEqual(error.response.headers["x-ms-error-code"], code)
        return error.error

    def test_refuses_a_sender_whose_domain_is_not_linked(self):
        error = self.refused_as(404, "DomainNotLinked", mail(senderAddress=UNLINKED))
        self.assertEqual(error.message, "The specified sender domain has not been linked.")

    def test_refuses_what_is_no_address(self):
        self.refused_as(400, "InvalidEmailAddress", mail("nobody"))

    def test_refuses_a_mail_without_its_required_parts(self):
        for part in ("senderAddress", "content", "recipients"):
            with self.subTest(part=part):
                broken = mail()
                del broken[part]
                self.refused(400, lambda: self.client.begin_send(broken))
        with self.subTest(part="subject"):
            self.refused(400, lambda: self.client.begin_send(mail(content={"plainText": "no subject"})))

    def test_sends_to_fifty_and_refuses_one_more(self):
        people = [{"address": f"person{number}@example.com"} for number in range(51)]
        many = {"to": people[:20], "cc": people[20:40], "bcc": people[40:]}
        self.refused((400, 413), lambda: self.client.begin_send(mail(recipients=many)))
        many["bcc"].pop()
        self.assertEqual(self.client.begin_send(mail(recipients=many)).result()["status"], "Succeeded")

    def test_refuses_more_than_ten_megabytes(self):
        large = mail(attachments=[file("large.bin", "application/octet-stream", bytes(8 * 1024 * 1024))])
        self.refused((400, 413), lambda: self.client.begin_send(large))

    def test_denies_a_wrong_key(self):
        client = self.connect(judge.with_a_wrong_key())
        self.denied(lambda: client.begin_send(mail()))

    def test_takes_a_key_credential(self):
        endpoint, key = judge.endpoint_and_key()
        client = self.closing(self.sdk.make(self.sdk.classes[0], endpoint, AzureKeyCredential(key)))
        self.assertEqual(client.begin_send(mail()).result()["status"], "Succeeded")

    def test_takes_an_entra_credential_with_the_role(self):
        self.assertEqual(self.by_entra().begin_send(mail()).result()["status"], "Succeeded")
        self.denied(lambda: self.by_entra(client=judge.STRANGER).begin_send(mail()))

    def test_waits_out_a_429(self):
        poller = self.waits_out("send_email", lambda: self.client.begin_send(mail()))
        judge.fault("get_email_operation", 429, retry_after=1)
        self.assertEqual(poller.result()["status"], "Succeeded")

    def test_a_429_that_lasts_reaches_the_caller(self):
        self.client = self.connect(retry_total=0)
        judge.fault("send_email", 429, retry_after=30)
        error = self.refused(429, lambda: self.client.begin_send(mail()))
        self.assertEqual(error.error.code, "TooManyRequests")


class Sync(Sending, judge.Judge):
    sdk = judge.Sdk("azure-communication-email", "sync", [EmailClient])


class Async(Sending, judge.Judge):
    sdk = judge.Sdk("azure-communication-email", "async", [AsyncEmailClient])
