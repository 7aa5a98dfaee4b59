"""The official Chat SDK for Python: threads and who is in them. See `judge.py`."""

import datetime
import uuid
from urllib.parse import unquote

from azure.communication.chat import ChatParticipant, CommunicationUserIdentifier

import judge
from chatting import ASYNC, SYNC, Chat, Person

THREAD_FORM = r"^19:[A-Za-z0-9_-]{44}@thread\.v2$"
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


class Threads:
    def ids(self, participants):
        return [each.identifier.raw_id for each in participants]

    def test_creates_a_thread(self):
        thread = self.created.chat_thread
        self.assertRegex(thread.id, THREAD_FORM)
        self.assertEqual(thread.topic, "Lunch")
        self.assertEqual(thread.created_by.raw_id, self.ada.id)
        self.assertEqual(thread.created_on.microsecond, 0)
        self.assertEqual(self.created.errors, [])
        self.assertEqual(self.ids(self.of_ada.list_participants()), [self.ada.id, self.bob.id])

    def test_says_where_the_thread_and_the_message_are(self):
        seen = []
        keep = lambda response: seen.append(response.http_response)
        thread = self.ada.client().create_chat_thread("Where", raw_response_hook=keep).chat_thread
        message = self.ada.thread(thread.id).send_message("here", raw_response_hook=keep)
        path = f"{judge.endpoint_and_key()[0]}/chat/threads/{thread.id}"
        wanted = [path, f"{path}/messages/{message.id}"]
        self.assertEqual([unquote(each.headers["Location"]) for each in seen], wanted)
        self.assertEqual([each.status_code for each in seen], [201, 201])

    def test_knows_the_thread_of_a_client(self):
        self.assertEqual(self.of_ada.thread_id, self.thread_id)

    def test_creates_a_thread_once_under_one_idempotency_token(self):
        client, token = self.ada.client(), str(uuid.uuid4())
        create = lambda token: client.create_chat_thread("Once", idempotency_token=token).chat_thread.id
        first = create(token)
        self.assertEqual(create(token), first)
        self.assertNotEqual(create(str(uuid.uuid4())), first)
        topics = [thread.topic for thread in client.list_chat_threads()]
        self.assertEqual(topics.count("Once"), 2)

    def test_creates_a_thread_once_whatever_the_history_shared(self):
        """As was recorded: the same idempotency token counts, though a participant's share of history differs."""
        token = str(uuid.uuid4())
        threads = {
            self.ada.client()
            .create_chat_thread(
                "Once",
                thread_participants=[self.bob.participant("Bob", share_history_time=since)],
                idempotency_token=token,
            )
            .chat_thread.id
            for since in (EPOCH, EPOCH + datetime.timedelta(days=1))
        }
        self.assertEqual(len(threads), 1)

    def test_names_the_creator_once(self):
        participants = [self.bob.participant("Bob"), self.ada.participant("Ada")]
        created = self.ada.client().create_chat_thread("Named", thread_participants=participants)
        self.assertEqual(created.errors, [])
        listed = self.ada.thread(created.chat_thread.id).list_participants()
        self.assertEqual(sorted(self.ids(listed)), sorted([self.ada.id, self.bob.id]))

    def test_lets_people_leave(self):
        self.assertIsNone(self.of_bob.remove_participant(self.bob.user))
        self.assertEqual(self.ids(self.of_ada.list_participants()), [self.ada.id])
        left = next(iter(self.of_ada.list_messages()))
        self.assertEqual(left.content.initiator.raw_id, self.bob.id)

    def test_creates_a_thread_once_when_the_sdk_repeats_the_request(self):
        judge.fault("create_thread", 503, retry_after=1, commit="after")
        carol = Person(self)
        created = carol.client().create_chat_thread("Repeated").chat_thread
        self.assertEqual([each.id for each in carol.client().list_chat_threads()], [created.id])

    def test_tells_who_could_not_be_put_in_a_new_thread(self):
        stranger = self.ada.id.rsplit("_", 1)[0] + "_00000000-0000-0000-0000-00000000abcd"
        result = self.ada.client().create_chat_thread(
            "Who", thread_participants=[self.participant(stranger), self.bob.participant()]
        )
        self.permission_failed(result.errors, stranger)
        thread = self.ada.thread(result.chat_thread.id)
        self.assertEqual(self.ids(thread.list_participants()), [self.ada.id, self.bob.id])

    def participant(self, raw_id):
        return ChatParticipant(identifier=CommunicationUserIdentifier(raw_id))

    def permission_failed(self, errors, raw_id):
        [(participant, error)] = errors
        self.assertEqual(participant.identifier.raw_id, raw_id)
        self.assertEqual((error.code, error.target), ("403", raw_id))
        self.assertTrue(error.message.startswith("Permissions check failed"), error.message)

    def test_reads_and_changes_the_topic(self):
        self.assertIsNone(self.of_ada.update_topic("Dinner"))
        properties = self.of_bob.get_properties()
        self.assertEqual((properties.id, properties.topic), (self.thread_id, "Dinner"))
        self.assertEqual(properties.created_by.raw_id, self.ada.id)
        self.assertEqual(properties.created_on, self.created.chat_thread.created_on)

    def test_lists_threads_page_by_page(self):
        carol = Person(self)
        client = carol.client()
        made = [client.create_chat_thread(f"Topic {number}").chat_thread.id for number in range(5)]
        pages = client.list_chat_threads(results_per_page=2).by_page()
        self.assertEqual([len(page) for page in pages], [2, 2, 1])
        listed = [thread.id for page in pages for thread in page]
        self.assertEqual(sorted(listed), sorted(made))
        self.assertEqual(len(list(client.list_chat_threads())), 5)

    def test_lists_a_thread_for_everybody_in_it(self):
        for person in (self.ada, self.bob):
            [thread] = person.client().list_chat_threads()
            self.assertEqual((thread.id, thread.topic), (self.thread_id, "Lunch"))
        self.assertEqual(list(Person(self).client().list_chat_threads()), [])

    def test_lists_threads_since_a_time(self):
        judge.advance("2h")
        client = self.ada.client()
        late = client.create_chat_thread("Late").chat_thread
        since = late.created_on - datetime.timedelta(hours=1)
        self.assertEqual([each.id for each in client.list_chat_threads(start_time=since)], [late.id])

    def test_lists_when_the_last_message_came(self):
        message = self.of_bob.get_message(self.of_bob.send_message("hello").id)
        [listed] = self.ada.client().list_chat_threads()
        self.assertEqual(listed.last_message_received_on, message.created_on)

    def test_deletes_a_thread_and_does_not_mind_a_second_time(self):
        client = self.ada.client()
        self.assertIsNone(client.delete_chat_thread(self.thread_id))
        self.refused((403, 404), lambda: self.of_ada.send_message("anybody?"))
        self.refused((403, 404), lambda: self.of_bob.update_topic("Still here"))
        self.assertIsNone(client.delete_chat_thread(self.thread_id))
        listed = [thread for thread in client.list_chat_threads() if thread.deleted_on is None]
        self.assertEqual(listed, [])

    def test_adds_participants(self):
        carol, since = Person(self), datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.timezone.utc)
        added = [carol.participant("Carol", share_history_time=since)]
        self.assertEqual(self.of_ada.add_participants(added), [])
        self.assertEqual(self.of_ada.add_participants(added), [], "who is in already is no change")
        ada, bob, kept = self.of_bob.list_participants()
        self.assertEqual((ada.identifier.raw_id, ada.share_history_time), (self.ada.id, EPOCH))
        self.assertEqual((bob.display_name, bob.share_history_time), ("Bob", EPOCH))
        self.assertEqual((kept.identifier.raw_id, kept.display_name), (carol.id, "Carol"))
        self.assertEqual(kept.share_history_time, since)
        self.assertEqual(carol.thread(self.thread_id).get_properties().topic, "Lunch")

    def test_lists_participants_page_by_page(self):
        others = [Person(self) for _ in range(5)]
        self.of_ada.add_participants([each.participant() for each in others])
        everybody = [self.ada.id, self.bob.id, *(each.id for each in others)]
        pages = self.of_ada.list_participants(results_per_page=3).by_page()
        self.assertEqual([len(page) for page in pages], [3, 3, 1])
        self.assertEqual([raw_id for page in pages for raw_id in self.ids(page)], everybody)
        self.assertEqual(self.ids(self.of_ada.list_participants(skip=5)), everybody[5:])

    def test_removes_a_participant(self):
        self.assertIsNone(self.of_ada.remove_participant(self.bob.user))
        self.assertEqual(self.ids(self.of_ada.list_participants()), [self.ada.id])
        self.communication_error(403, "Forbidden", self.of_bob.get_properties)
        self.assertEqual([t for t in self.bob.client().list_chat_threads() if t.deleted_on is None], [])

    def test_tells_who_could_not_be_added(self):
        stranger = self.ada.id.rsplit("_", 1)[0] + "_00000000-0000-0000-0000-00000000abcd"
        carol = Person(self)
        errors = self.of_ada.add_participants([self.participant(stranger), carol.participant()])
        self.permission_failed(errors, stranger)
        self.assertEqual(self.ids(self.of_ada.list_participants()), [self.ada.id, self.bob.id, carol.id])

    def test_refuses_a_participant_whose_id_has_no_form(self):
        broken = [self.participant("8:acs:broken")]
        error = self.communication_error(400, "BadRequest", lambda: self.of_ada.add_participants(broken))
        self.assertEqual(error["Message"], "Identifier format is invalid (8:acs:broken).")

    def test_refuses_more_than_200_participants_at_once(self):
        prefix = self.ada.id.rsplit("_", 1)[0]
        many = [self.participant(f"{prefix}_00000000-0000-0000-0000-{n:012x}") for n in range(201)]
        self.communication_error(400, "BadRequest", lambda: self.of_ada.add_participants(many))
        create = lambda: self.ada.client().create_chat_thread("Many", thread_participants=many)
        self.communication_error(400, "BadRequest", create)


class Sync(Threads, Chat):
    sdk = SYNC


class Async(Threads, Chat):
    sdk = ASYNC
