#!/usr/bin/env python3
"""Sends far more than an emulator with small bounds keeps, and asks the control paths what is left.

    bounds.py <how many messages of each kind it may keep>

Run by tests/emulator_wire.rs with ACS_CONNECTION_STRING; the emulator may keep one MiB of each kind.
"""
import json
import os
import sys

import flood
import wire

MEBIBYTE = 1024 * 1024


def main():
    bound = int(sys.argv[1])
    one = wire.Wire(os.environ["ACS_CONNECTION_STRING"])
    sending = flood.Flood(one, threads=4)
    most = {}

    def look():
        counts = one.control("GET", "status")["counts"]
        for kind in ("sms", "email", "chat"):
            most[kind] = max(most.get(kind, 0), counts[kind])
            assert counts[kind] <= bound, f"{kind}: {counts[kind]} are kept, {bound} are allowed"
        return counts

    for turn in range(5 * bound):
        if turn % (bound // 10) == 0:
            sending.sms()
            look()
        if turn % 2 == 0:
            sending.mail()
        sending.chat()
    counts = look()
    print(f"sent {sending.sent}, kept {counts}, at most {most}")
    # Small texts reach the number first, mails of some kilobytes the bytes.
    assert most["sms"] == bound, most
    assert 0 < counts["email"] < bound, counts
    for kind in ("sms", "email", "chat"):
        messages = one.control("GET", f"messages?kind={kind}&limit=1000")["messages"]
        assert len(messages) == counts[kind], f"{kind}: {len(messages)} are listed, {counts[kind]} are counted"
        kept = len(json.dumps(messages))
        assert kept <= 3 * MEBIBYTE, f"{kind}: {kept} bytes are listed"
        sequences = [message["sequence"] for message in messages]
        assert sequences == sorted(sequences, reverse=True), f"{kind}: not newest first"
        print(f"{kind}: {len(messages)} listed, {kept} bytes")
    events = one.control("GET", "events?limit=1000")["events"]
    assert len(events) == counts["events"] <= bound, f"events: {len(events)} listed, {counts['events']} counted"
    print(f"events: {len(events)} listed")


if __name__ == "__main__":
    main()
