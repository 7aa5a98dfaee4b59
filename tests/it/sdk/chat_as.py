"""A user's own app: the official chat SDK with a token that the broker issued, and nothing else from it.

The environment says: ACS_ENDPOINT (https), TOKEN, THREAD, TEXT, and REQUESTS_CA_BUNDLE for the emulator's CA. It lists
the threads, reads the thread, sends TEXT into it, and prints what it saw as JSON. Run by `tests/it/messaging_sdk.rs`.
"""

import json
import os

from azure.communication.chat import ChatClient, CommunicationTokenCredential

with ChatClient(os.environ["ACS_ENDPOINT"], CommunicationTokenCredential(os.environ["TOKEN"])) as client:
    threads = [thread.id for thread in client.list_chat_threads()]
    with client.get_chat_thread_client(os.environ["THREAD"]) as thread:
        topic = thread.get_properties().topic
        before = [one.content.message for one in thread.list_messages() if one.type == "text"]
        sent = thread.send_message(os.environ["TEXT"], sender_display_name="from the SDK").id
        people = sorted(one.identifier.raw_id for one in thread.list_participants())

print(json.dumps({"threads": threads, "topic": topic, "before": before, "sent": sent, "people": people}))
