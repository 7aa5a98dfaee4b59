#!/usr/bin/env python3
"""Hostile connections against a real broker, and what its other callers notice.

One broker process with TLS on the embedded store, its cache filled, ACS an emulator process. Callers ask for a cached
token at a fixed pace, in turns without and with an attack; printed are p50 and p99 of their calls (medians over the
rounds), failed calls, and the broker's memory (RSS) before and at its highest. Attackers come from addresses of
their own (127.0.0.66 ...), callers from 127.0.0.1. Attackers have a lower priority: in truth they have processors of
their own, and here they share two with the broker. The attacks:

  slowloris   2,000 connections that are opened again when they are closed: silent, half a TLS handshake, half a preface,
              half the headers of a call, bodies a byte at a time
  resets      100,000 calls that are reset as soon as they are sent
  hoard       150 connections that ask for 250 tokens each and take none (HTTP/2 windows of zero), opened again when closed
  headers     80 calls a second with megabytes of headers, in large headers and in endless CONTINUATION frames

Everything is on loopback and bounded in time. Needs openssl; builds what it runs.
"""
import argparse
import asyncio
import json
import os
import pathlib
import resource
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench/load"))
from run import METHOD, Servers, free_port, rss_mib, wait_for  # noqa: E402

BINARIES = ROOT / "target/release"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(name, value):
    """A header without compression. Lengths of 127 and more take further bytes."""

    def text(data):
        length = len(data)
        if length < 127:
            return bytes([length]) + data
        rest, out = length - 127, bytearray([127])
        while rest >= 128:
            out.append(rest % 128 + 128)
            rest //= 128
        out.append(rest)
        return bytes(out) + data

    return b"\0" + text(name) + text(value)


def head(more=()):
    pairs = [(b":method", b"POST"), (b":scheme", b"https"), (b":path", METHOD.encode()), (b":authority", b"any"),
             (b"content-type", b"application/grpc"), (b"te", b"trailers"), *more]
    return b"".join(literal(*pair) for pair in pairs)


BEGIN = PREFACE + frame(4, 0, 0)


class Attackers:
    """Connections from addresses that are nobody else's."""

    def __init__(self, port, stop):
        self.port, self.stop = port, stop
        self.opened = self.closed = self.refused = self.sent = 0
        self.tls = ssl.create_default_context()
        self.tls.check_hostname, self.tls.verify_mode = False, ssl.CERT_NONE
        self.tls.set_alpn_protocols(["h2"])

    async def open(self, address, tls=True):
        connecting = asyncio.open_connection(
            "127.0.0.1", self.port, local_addr=(address, 0), ssl=self.tls if tls else None, limit=4096)
        reader, writer = await asyncio.wait_for(connecting, 15)
        self.opened += 1
        return reader, writer

    async def until_closed(self, reader):
        """Reads and throws away until the broker hangs up or the attack is over."""
        while not self.stop.is_set():
            try:
                if not await asyncio.wait_for(reader.read(4096), 0.5):
                    break
            except asyncio.TimeoutError:
                continue
        else:
            return
        self.closed += 1

    async def slow(self, kind, address):
        """One slow connection, again and again, at most every five seconds."""
        while not self.stop.is_set():
            began = time.monotonic()
            writer = None
            try:
                reader, writer = await self.open(address, tls=kind in ("preface", "headers", "body"))
                if kind == "handshake":
                    writer.write(bytes.fromhex("160301012c010001280303"))
                elif kind == "preface":
                    writer.write(PREFACE[:10])
                elif kind == "headers":
                    block = head()
                    # The frame says how long it is, and half of it comes.
                    writer.write(BEGIN + frame(1, 4, 1, block)[: 9 + len(block) // 2])
                elif kind == "body":
                    length = 60_000
                    block = literal(b"grpc-timeout", b"3600S")
                    writer.write(BEGIN + frame(1, 4, 1, head() + block) + frame(0, 0, 1, b"\0" + length.to_bytes(4, "big")))
                    asyncio.ensure_future(self.trickle(writer))
                await self.until_closed(reader)
            except (OSError, asyncio.TimeoutError, ssl.SSLError):
                self.refused += 1
            finally:
                if writer:
                    writer.close()
            await asyncio.sleep(max(0.0, 5 - (time.monotonic() - began)))

    async def trickle(self, writer):
        try:
            while not self.stop.is_set() and not writer.is_closing():
                writer.write(frame(0, 0, 1, b"x"))
                await asyncio.sleep(2)
        except OSError:
            pass

    async def slowloris(self, connections):
        kinds = ("silent", "handshake", "preface", "headers", "body")
        # Most from one address, some from many.
        await asyncio.gather(*(
            self.slow(kinds[n % len(kinds)], "127.0.0.66" if n % 2 else f"127.0.1.{n % 200 + 1}") for n in range(connections)))

    async def resets(self, total):
        block = head()

        async def one(address):
            while self.sent < total and not self.stop.is_set():
                writer = None
                try:
                    reader, writer = await self.open(address)
                    writer.write(BEGIN)
                    reading = asyncio.ensure_future(self.until_closed(reader))
                    for start in range(0, 1_000_000, 100):
                        if self.sent >= total or reading.done() or self.stop.is_set():
                            break
                        streams = range(2 * start + 1, 2 * (start + 100) + 1, 2)
                        writer.write(b"".join(frame(1, 4, s, block) + frame(3, 0, s, b"\0\0\0\x08") for s in streams))
                        await asyncio.wait_for(writer.drain(), 10)
                        self.sent += 100
                        await asyncio.sleep(0)
                    reading.cancel()
                except (OSError, asyncio.TimeoutError, ssl.SSLError):
                    self.refused += 1
                finally:
                    if writer:
                        writer.close()

        await asyncio.gather(*(one(f"127.0.0.{66 + n}") for n in range(4)))

    async def hoard(self, connections):
        """Asks, and gives no room for the answers."""
        block = head()
        message = b"\x0a\x05bench\x12\x01\x01"
        data = b"\0" + len(message).to_bytes(4, "big") + message
        no_room = PREFACE + frame(4, 0, 0, b"\0\x04" + bytes(4))
        asks = b"".join(frame(1, 4, s, block) + frame(0, 1, s, data) for s in range(1, 500, 2))

        async def one(number):
            while not self.stop.is_set():
                writer = None
                try:
                    reader, writer = await self.open(f"127.0.0.{66 + number % 8}")
                    writer.write(no_room + asks)
                    self.sent += 250
                    await self.until_closed(reader)
                except (OSError, asyncio.TimeoutError, ssl.SSLError):
                    self.refused += 1
                finally:
                    if writer:
                        writer.close()
                await asyncio.sleep(1)

        await asyncio.gather(*(one(number) for number in range(connections)))

    async def headers(self, total):
        async def one(number):
            large = head([(f"x-{n}".encode(), b"a" * 8000) for n in range(32)])
            while self.sent < total and not self.stop.is_set():
                self.sent += 1
                writer = None
                await asyncio.sleep(0.05)
                try:
                    reader, writer = await self.open(f"127.0.0.{66 + number}")
                    writer.write(BEGIN)
                    reading = asyncio.ensure_future(self.until_closed(reader))
                    if self.sent % 2:
                        # One call whose headers are sixteen times what is allowed, in frames of the usual size.
                        parts = [large[at:at + 16_000] for at in range(0, len(large), 16_000)]
                        writer.write(frame(1, 0, 1, parts[0]) + b"".join(frame(9, 0, 1, part) for part in parts[1:-1])
                                     + frame(9, 4, 1, parts[-1]))
                        await asyncio.wait_for(writer.drain(), 10)
                        await asyncio.wait([reading], timeout=0.2)
                    else:
                        # Headers without an end.
                        writer.write(frame(1, 0, 1, head()))
                        for _ in range(200):
                            if reading.done():
                                break
                            writer.write(frame(9, 0, 1, literal(b"x", b"a" * 16_000)))
                            await asyncio.wait_for(writer.drain(), 10)
                    reading.cancel()
                except (OSError, asyncio.TimeoutError, ssl.SSLError):
                    self.refused += 1
                finally:
                    if writer:
                        writer.close()

        await asyncio.gather(*(one(number) for number in range(4)))


def attack(kind, port, amount, seconds):
    """Runs in a process of its own; prints what it did."""

    async def run():
        stop = asyncio.Event()
        attackers = Attackers(port, stop)
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        working = asyncio.ensure_future(getattr(attackers, kind)(amount))
        await asyncio.wait([working], timeout=seconds)
        stop.set()
        await asyncio.wait([working], timeout=5)
        print(json.dumps({key: getattr(attackers, key) for key in ("opened", "closed", "refused", "sent")}), flush=True)
        os._exit(0)

    soft = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 16_384)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    asyncio.run(run())


def certificate(folder):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=broker", "-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
         "-keyout", folder / "tls.key", "-out", folder / "tls.crt"], check=True, capture_output=True)


def start_broker(servers, folder):
    ready = folder / "emulator.json"
    servers.start("emulator", [BINARIES / "acs-broker", "emulator", "--ready-file", ready,
                               "--emulator-addr", "127.0.0.1:0", "--emulator-tls-addr", "127.0.0.1:0"])
    wait_for(lambda: ready.exists() and ready.read_text().strip(), "emulator ready")
    port, admin, probe = free_port(), free_port(), free_port()
    settings = {
        "SERVER__ADDRESS": f"127.0.0.1:{port}", "ADMIN__ADDRESS": f"127.0.0.1:{admin}",
        "SERVER__PROBE_ADDRESS": f"127.0.0.1:{probe}", "SERVER__TLS__CERT_FILE": folder / "tls.crt",
        "SERVER__TLS__KEY_FILE": folder / "tls.key", "STORE__EMBEDDED__PATH": folder / "broker.redb",
        "ACS__CONNECTION_STRING": json.loads(ready.read_text())["connection_string"],
    }
    environment = {f"ACS_BROKER__{key}": str(value) for key, value in settings.items()}
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    process = servers.start(
        "broker", [BINARIES / "acs-broker", "serve"], env=environment,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard)))
    check = [BINARIES / "acs-broker", "healthcheck", "--addr", f"127.0.0.1:{probe}"]
    wait_for(lambda: subprocess.run(check, capture_output=True).returncode == 0, "broker ready")
    return process, port, admin


async def one_caller(port, end, times, failed):
    """Asks for the same cached token ten times a second over one connection; an answer is a token's DATA frame.

    Written by hand: h2load's pacing adds its own timer to what it measures.
    """
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    tls.set_alpn_protocols(["h2"])
    block, user, loop = head(), b"bench", asyncio.get_running_loop()
    message = b"\x0a" + bytes([len(user)]) + user + b"\x12\x01\x01"
    data = b"\0" + len(message).to_bytes(4, "big") + message
    reader = writer = None
    stream, due = 1, loop.time()
    while loop.time() < end:
        began = loop.time()
        try:
            if writer is None:
                reader, writer = await asyncio.wait_for(
                    asyncio.open_connection("127.0.0.1", port, ssl=tls, local_addr=("127.0.0.1", 0)), 10)
                writer.write(BEGIN)
                stream = 1
            writer.write(frame(1, 4, stream, block) + frame(0, 1, stream, data))
            size = 0
            while True:
                top = await asyncio.wait_for(reader.readexactly(9), 10)
                payload = await asyncio.wait_for(reader.readexactly(int.from_bytes(top[:3], "big")), 10)
                kind, flags = top[3], top[4]
                if kind == 0:
                    size += len(payload)
                    writer.write(frame(8, 0, 0, len(payload).to_bytes(4, "big")))
                elif kind == 6 and not flags & 1:
                    writer.write(frame(6, 1, 0, payload))
                elif kind == 7 or kind == 3:
                    raise OSError("ended by the broker")
                if kind in (0, 1) and flags & 1:
                    break
            times.append((loop.time() - began) * 1000)
            failed.append(size < 500)
            stream += 2
        except (OSError, EOFError, asyncio.TimeoutError, ssl.SSLError):
            failed.append(True)
            if writer:
                writer.close()
            writer = None
        due = max(due + 0.1, loop.time() - 0.1)
        await asyncio.sleep(max(0.0, due - loop.time()))
    if writer:
        writer.close()


def call(port, seconds):
    """Runs in a process of its own; prints the times of the calls in ms, and how many failed."""

    async def run():
        times, failed = [], []
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        end = asyncio.get_running_loop().time() + seconds
        await asyncio.gather(*(one_caller(port, end, times, failed) for _ in range(20)))
        print(json.dumps({"times": sorted(times), "failed": sum(failed)}), flush=True)

    asyncio.run(run())


def callers(port, seconds):
    out = subprocess.run([sys.executable, __file__, "--call", str(port), str(seconds)], check=True, capture_output=True,
                         text=True, timeout=seconds + 60).stdout
    said = json.loads(out)
    return said["times"], said["failed"]


class Highest:
    """The highest RSS while the body of a `with` runs."""

    def __init__(self, process):
        self.process = process

    def __enter__(self):
        import threading
        self.most, self.end = 0.0, threading.Event()

        def watch():
            while not self.end.wait(0.1):
                self.most = max(self.most, rss_mib(self.process))

        self.thread = threading.Thread(target=watch)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        self.thread.join()


def metric(admin, prefix):
    from urllib.request import urlopen
    text = urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=5).read().decode()
    return [line for line in text.splitlines() if line.startswith(prefix)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=15, help="length of each turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fill", type=int, default=50_000, help="cached tokens")
    parser.add_argument("--only", choices=("slowloris", "resets", "headers", "hoard"))
    parser.add_argument("--no-build", action="store_true")
    parser.add_argument("--debug", action="store_true", help="with the debug build, to try the script itself")
    parser.add_argument("--attack", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--call", nargs=2, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.attack:
        kind, port, amount, seconds = arguments.attack
        return attack(kind, int(port), int(amount), int(seconds))
    if arguments.call:
        return call(*arguments.call)
    global BINARIES
    if arguments.debug:
        BINARIES = ROOT / "target/debug"
    if not shutil.which("openssl"):
        sys.exit("openssl is missing: apt-get install openssl")
    if not arguments.no_build:
        subprocess.run(["cargo", "build", "--release", "--quiet", "--bins", "--example", "fill"], cwd=ROOT, check=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="acs-broker-hostile-"))
    servers = Servers(folder)
    try:
        certificate(folder)
        broker, port, admin = start_broker(servers, folder)
        fresh = rss_mib(broker)
        subprocess.run([BINARIES / "examples/fill", f"https://localhost:{port}", str(arguments.fill), folder / "tls.crt"],
                       check=True, timeout=900)
        callers(port, 3)  # warms up
        print(f"RSS when started {fresh:.1f} MiB, with {arguments.fill} cached tokens {rss_mib(broker):.1f} MiB")
        print(f"{'':<11}{'quiet p50':>10}{'p99 ms':>8}{'attacked p50':>14}{'p99 ms':>8}{'p99 ratio':>11}{'failed':>8}{'RSS before':>12}{'highest':>9}{'ratio':>7}")
        for kind, amount in (("slowloris", 2000), ("resets", 100_000), ("headers", 2000), ("hoard", 150)):
            if arguments.only not in (None, kind):
                continue
            rows, did = [], []
            for _ in range(arguments.rounds):
                quiet, failed = callers(port, arguments.seconds)
                before = rss_mib(broker)
                with Highest(broker) as highest:
                    attacking = servers.start(
                        f"attack-{kind}", [sys.executable, __file__, "--attack", kind, str(port), str(amount), str(arguments.seconds + 4)],
                        stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.nice(10))
                    time.sleep(2)
                    attacked, failed_then = callers(port, arguments.seconds)
                    did.append(attacking.communicate(timeout=60)[0].strip())
                servers.started.remove(attacking)
                at = lambda times, share: times[int(len(times) * share)]  # noqa: E731
                rows.append((at(quiet, .5), at(quiet, .99), at(attacked, .5), at(attacked, .99), failed + failed_then, before, highest.most))
            middle = [statistics.median(row[n] for row in rows) for n in range(7)]
            ratio = statistics.median(row[3] / row[1] for row in rows)
            grown = max(row[6] / row[5] for row in rows)
            print(f"{kind:<11}{middle[0]:>10.2f}{middle[1]:>8.2f}{middle[2]:>14.2f}{middle[3]:>8.2f}{ratio:>11.2f}"
                  f"{sum(row[4] for row in rows):>8}{middle[5]:>12.1f}{max(row[6] for row in rows):>9.1f}{grown:>7.2f}")
            print(f"           the attackers, each round: {' '.join(did)}", flush=True)
        print("\n".join(metric(admin, "acs_broker_connections_")))
        print(f"RSS at the end {rss_mib(broker):.1f} MiB")
    finally:
        servers.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
