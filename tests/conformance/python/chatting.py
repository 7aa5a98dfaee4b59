"""What the cases of chat share: people with tokens, their clients, and a thread. Used by `test_chat_*.py`.

People are made by the Identity SDK, as an application would; the same cases judge both kinds of chat client.
"""

import json

from azure.communication.chat import ChatClient, ChatParticipant, ChatThreadClient, CommunicationTokenCredential
from azure.communication.chat.aio import ChatClient as AsyncChatClient
from azure.communication.chat.aio import ChatThreadClient as AsyncChatThreadClient
from azure.communication.chat.aio import CommunicationTokenCredential as AsyncCommunicationTokenCredential
from azure.communication.identity import CommunicationIdentityClient

import judge

ENDPOINT = judge.endpoint_and_key()[0]
IDENTITY = CommunicationIdentityClient.from_connection_string(judge.CONNECTION_STRING)

SYNC = judge.Sdk("azure-communication-chat", "sync", [ChatClient, ChatThreadClient, CommunicationTokenCredential])
ASYNC = judge.Sdk(
    "azure-communication-chat",
    "async",
    [AsyncChatClient, AsyncChatThreadClient, AsyncCommunicationTokenCredential],
)


class Person:
    """An ACS user with a token and the clients that use it."""

    def __init__(self, case, scopes=("chat",), user=None, identity=IDENTITY):
        self.case, self.clients = case, {}
        self.user = user or IDENTITY.create_user()
        self.id = self.user.raw_id
        self.token = identity.get_token(self.user, list(scopes)).token

    def client(self, **options):
        """The same client for the same token, for each has connections of its own."""
        key = (self.token, *options)
        if key not in self.clients:
            chat, _, credential = self.case.sdk.classes
            client = self.case.sdk.make(chat, ENDPOINT, credential(self.token), **options)
            self.clients[key] = self.case.closing(client)
        return self.clients[key]

    def thread(self, thread_id):
        return self.case.closing(self.client().get_chat_thread_client(thread_id))

    def participant(self, name=None, **more):
        return ChatParticipant(identifier=self.user, display_name=name, **more)


class Chat(judge.Judge):
    """A case with two people, Ada and Bob, in a thread of Ada's."""


    def setUp(self):
        self.ada, self.bob = Person(self), Person(self)
        self.created = self.ada.client().create_chat_thread(
            "Lunch", thread_participants=[self.bob.participant("Bob")]
        )
        self.thread_id = self.created.chat_thread.id
        self.of_ada, self.of_bob = self.ada.thread(self.thread_id), self.bob.thread(self.thread_id)

    def communication_error(self, status, code, call):
        """The error of a call that chat refuses in its own words, as they came."""
        error = self.refused(status, call)
        body = json.loads(error.response.text())["CommunicationError"]
        self.assertEqual(body["Code"], code)
        self.assertEqual(body["Details"], [])
        return body
