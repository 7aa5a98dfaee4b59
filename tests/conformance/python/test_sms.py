"""The official SMS SDK for Python, synchronous and asynchronous. See `judge.py`."""

import time

from azure.communication.sms import SmsClient
from azure.communication.sms.aio import SmsClient as AsyncSmsClient
from azure.core.credentials import AzureKeyCredential

import judge

OWNED, SHORT_CODE, ALPHANUMERIC = "+18005550100", "50505", "Contoso"
UNOWNED = "+18005550199"
#: Numbers that stand for an outcome: see docs/emulator-magic.md.
UNREACHABLE, UNAVAILABLE = "+12065550104", "+12065550133"


class Sending:
    def setUp(self):
        self.client = self.connect()
        # Each case has recipients of its own, so that it finds its messages again.
        self.area = 300 + Sending.cases
        Sending.cases += 1

    cases = 0

    def connect(self, connection_string=judge.CONNECTION_STRING, **options):
        maker = self.sdk.classes[0].from_connection_string
        return self.closing(self.sdk.make(maker, connection_string, **options))

    def number(self, last=0):
        return f"+1{self.area}555{last:04d}"

    def accepted(self, result, to):
        self.assertEqual((result.to, result.http_status_code, result.successful), (to, 202, True))
        self.assertTrue(result.message_id)
        self.assertIsNone(result.error_message)

    def test_sends_to_one_number(self):
        results = self.client.send(OWNED, self.number(), "Grüße 👋")
        self.assertEqual(len(results), 1)
        self.accepted(results[0], self.number())
        kept = judge.message(results[0].message_id)
        self.assertEqual((kept["kind"], kept["direction"]), ("sms", "outbound"))
        self.assertEqual((kept["from"], kept["to"], kept["text"]), (OWNED, [self.number()], "Grüße 👋"))

    def test_answers_for_each_recipient_in_order_and_sends_to_the_good_ones(self):
        to = [self.number(1), "+15550000000", self.number(2), "+1425555012345"]
        results = self.client.send(from_=OWNED, to=to, message="to several")
        self.assertEqual([result.to for result in results], to)
        for result in (results[0], results[2]):
            self.accepted(result, result.to)
        for result in (results[1], results[3]):
            self.assertEqual((result.http_status_code, result.successful), (400, False))
            self.assertEqual(result.error_message, "Invalid To phone number format.")
            self.assertIsNone(result.message_id)
        self.assertNotEqual(results[0].message_id, results[2].message_id)
        self.assertEqual([len(judge.messages(kind="sms", to=number)) for number in to], [1, 0, 1, 0])

    def test_reports_delivery_with_the_tag(self):
        [result] = self.client.send(OWNED, [self.number()], "tagged", enable_delivery_report=True, tag="campaign 7")
        self.accepted(result, self.number())
        [kept] = judge.wait_for(kind="sms", to=self.number(), status="Delivered")
        self.assertEqual(kept["tag"], "campaign 7")
        self.assertTrue(judge.message(result.message_id)["detail"]["delivery_report"])

    def test_hears_of_a_message_that_cannot_be_delivered_by_its_report_alone(self):
        tag = f"lost {self.area}"
        [result] = self.client.send(OWNED, UNREACHABLE, "lost", enable_delivery_report=True, tag=tag)
        self.accepted(result, UNREACHABLE)
        [kept] = judge.wait_for(kind="sms", tag=tag, status="Failed")
        self.assertEqual(kept["id"], result.message_id)

    def test_answers_503_for_a_recipient_it_cannot_take_now(self):
        [result] = self.client.send(OWNED, [UNAVAILABLE], "later")
        self.assertEqual((result.to, result.http_status_code, result.successful), (UNAVAILABLE, 503, False))
        self.assertEqual(result.error_message, "ServiceUnavailable")

    def test_sends_from_a_short_code_and_a_name(self):
        for sender in (SHORT_CODE, ALPHANUMERIC):
            with self.subTest(sender=sender):
                [result] = self.client.send(sender, self.number(), "hello")
                self.accepted(result, self.number())
                self.assertEqual(judge.message(result.message_id)["from"], sender)

    def test_sends_the_same_text_twice_when_it_is_called_twice(self):
        """The SDK makes a new repeatability id for each call, so that these are two messages."""
        ids = {self.client.send(OWNED, self.number(), "again")[0].message_id for _ in range(2)}
        self.assertEqual(len(ids), 2)
        self.assertEqual(len(judge.messages(kind="sms", to=self.number())), 2)

    def test_sends_once_when_the_sdk_repeats_the_request(self):
        """The first answer is lost after the message went out; the SDK asks again under the same repeatability id."""
        before = judge.calls("send_sms")
        judge.fault("send_sms", 503, retry_after=1, commit="after")
        [result] = self.client.send(OWNED, self.number(), "once")
        self.accepted(result, self.number())
        self.assertEqual(judge.calls("send_sms") - before, 2)
        kept = judge.messages(kind="sms", to=self.number())
        self.assertEqual([each["id"] for each in kept], [result.message_id])

    def test_refuses_a_sender_the_resource_does_not_own(self):
        for sender in (UNOWNED, "+15550000000", "Fabrikam"):
            with self.subTest(sender=sender):
                error = self.refused(401, lambda: self.client.send(sender, self.number(), "hello"))
                self.assertEqual(error.error.code, "Unauthorized")
        self.assertEqual(judge.messages(kind="sms", to=self.number()), [])

    def test_refuses_a_malformed_sender(self):
        error = self.refused(400, lambda: self.client.send("+1425555012345", self.number(), "hello"))
        self.assertIn("phone number format", error.response.text())

    def test_refuses_a_recipient_with_letters(self):
        self.refused(400, lambda: self.client.send(OWNED, "Ad155500000000000", "hello"))

    def test_sends_to_a_hundred_and_refuses_one_more(self):
        to = [self.number(last) for last in range(101)]
        self.refused(400, lambda: self.client.send(OWNED, to, "hello"))
        results = self.client.send(OWNED, to[:100], "hello")
        self.assertEqual([result.to for result in results], to[:100])
        self.assertTrue(all(result.successful for result in results))

    def test_sends_2048_characters_and_refuses_one_more(self):
        self.refused(400, lambda: self.client.send(OWNED, self.number(), "x" * 2049))
        [result] = self.client.send(OWNED, self.number(), "x" * 2048)
        self.accepted(result, self.number())

    def test_denies_a_wrong_key(self):
        client = self.connect(judge.with_a_wrong_key())
        self.denied(lambda: client.send(OWNED, self.number(), "hello"))

    def test_takes_a_key_credential(self):
        endpoint, key = judge.endpoint_and_key()
        client = self.closing(self.sdk.make(self.sdk.classes[0], endpoint, AzureKeyCredential(key)))
        self.accepted(client.send(OWNED, self.number(), "hello")[0], self.number())

    def test_takes_an_entra_credential_with_the_role(self):
        send = lambda client: client.send(OWNED, self.number(), "hello")
        self.accepted(send(self.by_entra())[0], self.number())
        self.denied(lambda: send(self.by_entra(client=judge.STRANGER)))

    def test_waits_out_a_429(self):
        [result] = self.waits_out("send_sms", lambda: self.client.send(OWNED, self.number(), "patient"))
        self.accepted(result, self.number())

    def test_a_429_that_lasts_reaches_the_caller(self):
        client = self.connect(retry_total=0)
        judge.fault("send_sms", 429, retry_after=30)
        start = time.monotonic()
        error = self.refused(429, lambda: client.send(OWNED, self.number(), "impatient"))
        self.assertEqual(error.response.headers["Retry-After"], "30")
        self.assertLess(time.monotonic() - start, 10)


class Sync(Sending, judge.Judge):
    sdk = judge.Sdk("azure-communication-sms", "sync", [SmsClient])


class Async(Sending, judge.Judge):
    sdk = judge.Sdk("azure-communication-sms", "async", [AsyncSmsClient])
