"""The official Chat SDK for Python: whom chat refuses, and what it does when there is too much. See `judge.py`."""

import time

from azure.communication.identity import CommunicationIdentityClient

import judge
from chatting import ASYNC, IDENTITY, SYNC, Chat, Person

#: Both were seen of the real service for tokens that do not open chat; which of them when, is not known.
NO_ENTRY = (401, 403)


class Refusals:
    def shut_out(self, person):
        self.refused(NO_ENTRY, lambda: list(person.client().list_chat_threads()))
        self.refused(NO_ENTRY, person.thread(self.thread_id).get_properties)
        self.refused(NO_ENTRY, lambda: person.client().create_chat_thread("No"))

    def test_refuses_who_is_not_in_the_thread(self):
        of_carol = Person(self).thread(self.thread_id)
        message_id = self.of_ada.send_message("private").id
        for what, call in [
            ("get_properties", of_carol.get_properties),
            ("update_topic", lambda: of_carol.update_topic("Mine")),
            ("send_message", lambda: of_carol.send_message("hello")),
            ("get_message", lambda: of_carol.get_message(message_id)),
            ("list_messages", lambda: list(of_carol.list_messages())),
            ("list_participants", lambda: list(of_carol.list_participants())),
            ("list_read_receipts", lambda: list(of_carol.list_read_receipts())),
            ("send_read_receipt", lambda: of_carol.send_read_receipt(message_id)),
            ("send_typing_notification", of_carol.send_typing_notification),
            ("remove_participant", lambda: of_carol.remove_participant(self.bob.user)),
            ("add_participants", lambda: of_carol.add_participants([Person(self).participant()])),
        ]:
            with self.subTest(what=what):
                body = self.communication_error(403, "Forbidden", call)
                self.assertEqual(
                    body["Message"],
                    "The initiator doesn't have the permission to perform the requested operation.",
                )

    def test_knows_no_thread_that_never_was(self):
        for thread_id in ("19:" + "A" * 44 + "@thread.v2", "no-thread"):
            with self.subTest(thread_id=thread_id):
                thread = self.ada.thread(thread_id)
                self.communication_error(404, "NotFound", thread.get_properties)
                self.communication_error(404, "NotFound", lambda: thread.send_message("hello"))

    def test_refuses_a_token_for_calls_alone(self):
        for scope in ("voip", "voip.join"):
            with self.subTest(scope=scope):
                person = Person(self, scopes=[scope])
                self.of_ada.add_participants([person.participant()])
                self.shut_out(person)

    def test_lets_joiners_take_part_but_not_found_threads(self):
        for scope, may_add in [("chat.join", True), ("chat.join.limited", False)]:
            with self.subTest(scope=scope):
                person = Person(self, scopes=[scope])
                self.of_ada.add_participants([person.participant()])
                thread = person.thread(self.thread_id)
                self.assertTrue(thread.send_message("I may write").id)
                self.refused(NO_ENTRY, lambda: person.client().create_chat_thread("No"))
                self.refused(NO_ENTRY, lambda: thread.update_topic("No"))
                self.refused(NO_ENTRY, lambda: person.client().delete_chat_thread(self.thread_id))
                more = [Person(self).participant()]
                if may_add:
                    self.assertEqual(thread.add_participants(more), [])
                else:
                    self.refused(NO_ENTRY, lambda: thread.add_participants(more))

    def test_refuses_what_is_no_token_of_this_resource(self):
        header, _, signature = self.ada.token.split(".")
        _, other_payload, _ = self.bob.token.split(".")
        self.ada.token = ".".join([header, other_payload, signature])
        self.shut_out(self.ada)

    def test_refuses_a_revoked_token_and_takes_the_next(self):
        IDENTITY.revoke_tokens(self.ada.user)
        self.shut_out(self.ada)
        again = Person(self, user=self.ada.user).thread(self.thread_id)
        self.assertEqual(again.get_properties().topic, "Lunch")

    def test_refuses_the_token_of_a_deleted_user(self):
        IDENTITY.delete_user(self.bob.user)
        self.shut_out(self.bob)
        self.assertEqual(self.of_ada.get_properties().topic, "Lunch")

    def test_refuses_the_tokens_of_a_key_that_was_rotated(self):
        by_second = CommunicationIdentityClient.from_connection_string(judge.rotate("secondary"))
        carol = Person(self, identity=by_second)
        self.assertEqual(list(carol.client().list_chat_threads()), [])
        judge.rotate("secondary")
        self.shut_out(carol)
        self.assertEqual(self.of_ada.get_properties().topic, "Lunch", "tokens of the other key live on")

    def test_refuses_an_expired_token(self):
        """The emulator's clock jumps; the SDK, by its own clock, still takes the token for good."""
        self.assertEqual(self.of_ada.get_properties().topic, "Lunch")
        judge.advance("24h")
        judge.advance("1m")
        self.shut_out(self.ada)
        again = Person(self, user=self.ada.user).thread(self.thread_id)
        self.assertEqual(again.get_properties().topic, "Lunch")

    def test_waits_out_a_429(self):
        message = self.waits_out("send_message", lambda: self.of_ada.send_message("patient"))
        self.assertEqual(self.of_bob.get_message(message.id).content.message, "patient")
        self.waits_out("list_messages", lambda: list(self.of_bob.list_messages()))

    def test_gets_over_a_dropped_connection_and_a_slow_answer(self):
        before = judge.calls("list_threads")
        judge.meet("list_threads", effect="drop")
        self.assertEqual([each.id for each in self.ada.client().list_chat_threads()], [self.thread_id])
        self.assertEqual(judge.calls("list_threads") - before, 2)
        judge.meet("get_thread", effect="slow_body", over_ms=500)
        start = time.monotonic()
        self.assertEqual(self.of_ada.get_properties().topic, "Lunch")
        self.assertGreaterEqual(time.monotonic() - start, 0.4)

    def test_a_429_that_lasts_reaches_the_caller(self):
        client = self.ada.client(retry_total=0)
        judge.fault("list_threads", 429, retry_after=30)
        start = time.monotonic()
        error = self.refused(429, lambda: list(client.list_chat_threads()))
        self.assertEqual(error.response.headers["Retry-After"], "30")
        self.assertLess(time.monotonic() - start, 10)

    def test_refreshes_through_the_credential(self):
        """A credential with a refresher asks for a new token once the old one has less than two minutes left."""
        _, _, credential = self.sdk.classes
        asked = []

        def fresh():
            asked.append(IDENTITY.get_token(self.ada.user, ["chat"]))
            from azure.core.credentials import AccessToken

            return AccessToken(asked[-1].token, 2**33)

        async def fresh_async():
            return fresh()

        kept = self.sdk.make(
            credential, self.stale(self.ada.token), token_refresher=fresh_async if self.sdk is ASYNC else fresh
        )
        chat = self.closing(self.sdk.make(self.sdk.classes[0], judge.endpoint_and_key()[0], kept.unwatched()))
        self.assertEqual([each.id for each in chat.list_chat_threads()], [self.thread_id])
        self.assertEqual(kept.get_token().token, asked[-1].token)
        self.assertEqual(len(asked), 1)
        kept.close()

    def stale(self, token):
        """The same token with another expiry, long past: for the SDK alone, the emulator would not take it."""
        import base64
        import json

        header, payload, signature = token.split(".")
        claims = json.loads(base64.b64decode(payload + "=="))
        claims["exp"] = 1
        payload = base64.b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        return ".".join([header, payload, signature])


class Sync(Refusals, Chat):
    sdk = SYNC


class Async(Refusals, Chat):
    sdk = ASYNC
