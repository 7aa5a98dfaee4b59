#!/usr/bin/env python3
"""Memory of a running emulator under 200,000 messages: its resident set at 10, 50, 75 and 100 percent of them.

    bench/emulator_memory.py [--messages 200000] [--binary target/release/acs-broker] [--kinds sms,email,chat] [--points 4]

The emulator runs in a process of its own with the default bounds; it must be flat once they are reached. The mix is half
texts in batches of a hundred, a tenth mails, the rest chat messages; `--kinds` leaves some out, to see which one grows.
Bounded in count and time, and all on loopback. Linux only.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/emulator_wire"))

sys.dont_write_bytecode = True
import flood  # noqa: E402
import wire  # noqa: E402

POINTS = [0.10, 0.50, 0.75, 1.0]


def resident(process):
    """Resident set now and at its highest, in MiB."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return tuple(int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))


def cpu(process):
    """Seconds of processor time so far."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ready(file, process):
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        if file.exists() and file.stat().st_size:
            return json.loads(file.read_text(encoding="utf-8"))
        time.sleep(0.05)
    raise SystemExit("the emulator did not start")


def connection_string(told):
    """The one for HTTP among what the ready file tells."""
    found = []

    def look(value):
        if isinstance(value, dict):
            for each in value.values():
                look(each)
        elif isinstance(value, str) and value.startswith("endpoint=http://"):
            found.append(value)

    look(told)
    return found[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--binary", default=str(ROOT / "target/release/acs-broker"))
    parser.add_argument("--kinds", default="sms,email,chat")
    parser.add_argument("--points", type=int, default=0, help="this many points at equal distances instead")
    given = parser.parse_args()
    points = [(n + 1) / given.points for n in range(given.points)] if given.points else POINTS
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "ready.json"
        command = [given.binary, "emulator", "--emulator-addr", "127.0.0.1:0", "--emulator-tls-addr", "127.0.0.1:0", "--ready-file", str(file)]
        with open(pathlib.Path(folder) / "log", "w", encoding="utf-8") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            one = wire.Wire(connection_string(ready(file, process)))
            print(f"start: {resident(process)[0]:.0f} MiB", flush=True)
            fill(one, process, [int(given.messages * point) for point in points], given.kinds.split(","))
        finally:
            process.terminate()
            process.wait(10)


def fill(one, process, points, kinds):
    sending = flood.Flood(one, threads=200)
    started, used, done = time.monotonic(), cpu(process), 0
    # Of 200 messages, 100 are texts (one request), 20 are mails and 80 are chat messages.
    turn = {"sms": (sending.sms, 1), "email": (sending.mail, 20), "chat": (sending.chat, 80)}
    while points:
        for kind in kinds:
            send, times = turn[kind]
            for _ in range(times):
                send()
        if sending.total() >= points[0]:
            points.pop(0)
            now, highest = resident(process)
            counts = one.control("GET", "status")["counts"]
            kept = {kind: counts[kind] for kind in ("sms", "email", "chat", "events")}
            each = (cpu(process) - used) / (sending.total() - done) * 1e6
            used, done = cpu(process), sending.total()
            print(
                f"{sending.total():>7} messages, {time.monotonic() - started:5.0f} s: {now:6.1f} MiB (highest {highest:.1f}), "
                f"{each:.0f} µs CPU per message; sent {sending.sent}, kept {kept}",
                flush=True,
            )


if __name__ == "__main__":
    main()
