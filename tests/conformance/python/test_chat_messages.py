"""The official Chat SDK for Python: messages, receipts and typing. See `judge.py`."""

import datetime

from azure.communication.chat import ChatMessageType

import judge
from chatting import ASYNC, SYNC, Chat, Person


class Messages:
    def send(self, content="hello", **more):
        return self.of_ada.send_message(content, **more).id

    def texts(self, messages):
        return [each.content.message for each in messages if each.type == ChatMessageType.TEXT]

    def test_sends_and_reads_a_message(self):
        message_id = self.send("Grüße 👋", sender_display_name="Ada", metadata={"hasMood": "good"})
        read = self.of_bob.get_message(message_id)
        self.assertEqual((read.id, read.type, read.content.message), (message_id, ChatMessageType.TEXT, "Grüße 👋"))
        self.assertEqual((read.sender.raw_id, read.sender_display_name), (self.ada.id, "Ada"))
        self.assertEqual(read.metadata, {"hasMood": "good"})
        self.assertEqual((read.version, read.sequence_id), (message_id, "3"))
        self.assertIsNone(read.edited_on)
        self.assertIsNone(read.deleted_on)
        self.assertEqual(read.created_on.microsecond, 0)
        sent = datetime.datetime.fromtimestamp(int(message_id) // 1000, datetime.timezone.utc)
        self.assertLess(abs(read.created_on - sent), datetime.timedelta(seconds=2))

    def test_sends_html(self):
        for kind in (ChatMessageType.HTML, "html"):
            with self.subTest(kind=kind):
                read = self.of_ada.get_message(self.send("<b>hi</b>", chat_message_type=kind))
                self.assertEqual((read.type, read.content.message), (ChatMessageType.HTML, "<b>hi</b>"))
                self.assertEqual(read.sender_display_name, "")

    def test_the_emulator_kept_what_was_sent(self):
        message_id = self.send("for the inbox")
        [kept] = judge.messages(kind="chat", thread=self.thread_id, contains="for the inbox")
        self.assertEqual(kept["id"], f"{self.thread_id}/{message_id}")
        self.assertEqual((kept["from"], kept["subject"]), (self.ada.id, "Lunch"))

    def test_lists_messages_newest_first_page_by_page(self):
        sent = [self.send(f"message {number}") for number in range(23)]
        pages = self.of_bob.list_messages(results_per_page=10).by_page()
        self.assertEqual([len(page) for page in pages], [10, 10, 5])
        listed = [message for page in pages for message in page]
        self.assertEqual([each.id for each in listed[:23]], sent[::-1])
        self.assertEqual([each.sequence_id for each in listed], [str(n) for n in range(25, 0, -1)])
        self.assertEqual(len(list(self.of_bob.list_messages())), 25)

    def test_lists_ten_messages_to_a_page_if_nobody_says(self):
        for number in range(9):
            self.send(f"message {number}")
        self.assertEqual([len(page) for page in self.of_bob.list_messages().by_page()], [10, 1])

    def test_lists_messages_since_a_time(self):
        self.send("early")
        judge.advance("2h")
        late = self.send("late")
        since = self.of_ada.get_message(late).created_on - datetime.timedelta(hours=1)
        self.assertEqual(self.texts(self.of_ada.list_messages(start_time=since)), ["late"])
        self.assertEqual(self.texts(self.of_ada.list_messages()), ["late", "early"])

    def test_writes_system_messages_as_the_thread_changes(self):
        carol = Person(self)
        self.of_ada.update_topic("Dinner")
        self.of_ada.add_participants([carol.participant("Carol")])
        self.of_bob.remove_participant(carol.user)
        removed, added, renamed, named, began = self.of_ada.list_messages()
        self.assertEqual(
            [each.type for each in (began, named, renamed, added, removed)],
            [
                ChatMessageType.PARTICIPANT_ADDED,
                ChatMessageType.TOPIC_UPDATED,
                ChatMessageType.TOPIC_UPDATED,
                ChatMessageType.PARTICIPANT_ADDED,
                ChatMessageType.PARTICIPANT_REMOVED,
            ],
        )
        who = lambda message: [each.identifier.raw_id for each in message.content.participants]
        self.assertEqual(sorted(who(began)), sorted([self.ada.id, self.bob.id]))
        self.assertEqual((named.content.topic, renamed.content.topic), ("Lunch", "Dinner"))
        self.assertEqual((who(added), who(removed)), ([carol.id], [carol.id]))
        self.assertEqual(added.content.participants[0].display_name, "Carol")
        for message, initiator in [(began, self.ada), (added, self.ada), (removed, self.bob)]:
            self.assertEqual(message.content.initiator.raw_id, initiator.id)
            self.assertIsNone(message.sender)

    def test_edits_a_message(self):
        first, other = self.send("frist", metadata={"a": "1", "b": "2"}), self.send("other")
        self.assertIsNone(self.of_ada.update_message(first, "first", metadata={"a": "3"}))
        read = self.of_bob.get_message(first)
        self.assertEqual((read.content.message, read.metadata), ("first", {"a": "3"}))
        self.assertIsNotNone(read.edited_on)
        self.assertGreaterEqual(int(read.version), int(first))
        self.assertNotEqual(read.version, first)
        newest = list(self.of_bob.list_messages())[:2]
        self.assertEqual([each.id for each in newest], [first, other], "an edit moves it to the front")
        self.assertEqual(self.of_bob.get_message(other).content.message, "other")

    def test_edits_the_metadata_and_leaves_the_text(self):
        message_id = self.send("as it was", metadata={"a": "1"})
        self.of_ada.update_message(message_id, metadata={"b": "2"})
        read = self.of_bob.get_message(message_id)
        self.assertEqual((read.content.message, read.metadata), ("as it was", {"b": "2"}))

    def test_shows_nobody_what_was_before_their_share_of_history(self):
        self.send("before")
        judge.advance("2h")
        late = self.of_ada.get_message(self.send("after"))
        since = late.created_on - datetime.timedelta(hours=1)
        carol, dora = Person(self), Person(self)
        self.of_ada.add_participants([carol.participant(share_history_time=since), dora.participant()])
        self.assertEqual(self.texts(carol.thread(self.thread_id).list_messages()), ["after"])
        self.assertEqual(self.texts(dora.thread(self.thread_id).list_messages()), ["after", "before"])

    def test_deletes_a_message(self):
        gone, kept = self.send("gone"), self.send("kept")
        self.assertIsNone(self.of_ada.delete_message(gone))
        read = self.of_bob.get_message(gone)
        self.assertIsNotNone(read.deleted_on)
        self.assertEqual(read.content.message, "")
        self.assertEqual(self.texts(self.of_bob.list_messages()).count("gone"), 0)
        self.assertIn(gone, [each.id for each in self.of_bob.list_messages()])
        self.assertIsNone(self.of_bob.get_message(kept).deleted_on)

    def test_changes_no_message_of_somebody_else(self):
        message_id = self.send("mine")
        self.communication_error(403, "Forbidden", lambda: self.of_bob.update_message(message_id, "yours"))
        self.communication_error(403, "Forbidden", lambda: self.of_bob.delete_message(message_id))
        self.assertEqual(self.of_bob.get_message(message_id).content.message, "mine")

    def test_knows_no_message_that_never_was(self):
        for call in (self.of_ada.get_message, self.of_ada.delete_message):
            self.communication_error(404, "NotFound", lambda: call("1"))

    def test_refuses_a_message_over_28_kilobytes(self):
        self.refused((400, 413), lambda: self.send("x" * (28 * 1024 + 1)))

    def test_keeps_the_latest_receipt_of_each_reader(self):
        carol = Person(self)
        self.of_ada.add_participants([carol.participant()])
        first, second = self.send("first"), self.send("second")
        self.assertIsNone(self.of_bob.send_read_receipt(first))
        self.of_bob.send_read_receipt(second)
        carol.thread(self.thread_id).send_read_receipt(first)
        receipts = list(self.of_ada.list_read_receipts())
        read = {each.sender.raw_id: each.chat_message_id for each in receipts}
        self.assertEqual(read, {self.bob.id: second, carol.id: first})
        self.assertEqual(len(receipts), 2)
        for each in receipts:
            self.assertGreaterEqual(int(each.read_on.timestamp()), int(first) // 1000)
        pages = self.of_ada.list_read_receipts(results_per_page=1).by_page()
        self.assertEqual([len(page) for page in pages], [1, 1])
        self.assertEqual(len(list(self.of_ada.list_read_receipts(skip=1))), 1)

    def test_tells_of_typing(self):
        before = judge.calls("send_typing")
        self.assertIsNone(self.of_bob.send_typing_notification())
        self.assertIsNone(self.of_bob.send_typing_notification(sender_display_name="Bob"))
        self.assertEqual(judge.calls("send_typing") - before, 2)


class Sync(Messages, Chat):
    sdk = SYNC


class Async(Messages, Chat):
    sdk = ASYNC
