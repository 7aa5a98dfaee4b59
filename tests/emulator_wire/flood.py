"""A realistic mix of messages without end: many texts, fewer mails and chat messages, of the sizes people send.

Used by `bounds` and by bench/emulator_memory.py. Every answer must be a success.
"""
import random as randomness

import wire
from world import CHAT, EMAIL, SENDER, SMS, World

WORDS = "tide ferry harbour lamp rope gull crate pier salt wind north keel oar net cabin".split()


class Flood:
    """Sends in turns, over one connection; `sent` counts messages by kind."""

    def __init__(self, connection, seed=1, threads=20):
        self.wire = connection
        self.random = randomness.Random(seed)
        self.world = World(connection)
        self.threads = [self.world.thread_of("alice", "bob") for _ in range(threads)]
        self.sent = {"sms": 0, "email": 0, "chat": 0}

    def words(self, low, high):
        length = self.random.randrange(low, high)
        text = []
        while length > 0:
            text.append(self.random.choice(WORDS))
            length -= len(text[-1]) + 1
        return " ".join(text)

    def sms(self, recipients=100):
        to = [{"to": f"+1425555{self.random.randrange(10_000):04}"} for _ in range(recipients)]
        body = {
            "from": SENDER, "smsRecipients": to, "message": self.words(20, 300),
            "smsSendOptions": {"enableDeliveryReport": self.random.random() < 0.5, "tag": self.random.choice(WORDS)},
        }
        made = self.world.good("POST", f"/sms?{SMS}", body)
        assert all(item["successful"] for item in made["value"]), made["value"][0]
        self.sent["sms"] += recipients

    def mail(self):
        html = f"<p>{self.words(500, 6000)}</p>"
        to = [{"address": f"p{self.random.randrange(10**6)}@example.org"} for _ in range(self.random.choice([1, 1, 1, 3]))]
        body = {
            "senderAddress": "news@example.com", "recipients": {"to": to},
            "content": {"subject": self.words(10, 60), "plainText": self.words(200, 1500), "html": html},
        }
        if self.random.random() < 0.1:
            content = "QUJD" * self.random.randrange(100, 5000)
            body["attachments"] = [{"name": "a.txt", "contentType": "text/plain", "contentInBase64": content}]
        self.world.good("POST", f"/emails:send?{EMAIL}", body)
        self.sent["email"] += 1

    def chat(self):
        thread, who = self.random.choice(self.threads), self.random.choice(["alice", "bob"])
        body = {"content": self.words(5, 3000), "senderDisplayName": who}
        self.world.good("POST", f"/chat/threads/{wire.encoded(thread)}/messages?{CHAT}", body, self.world.tokens[who])
        self.sent["chat"] += 1

    def total(self):
        return sum(self.sent.values())
