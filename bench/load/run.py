#!/usr/bin/env python3
"""Load of IssueToken from the cache, side by side with a bare tonic server in the same run.

Prints requests/s, p50, p99 and CPU per request of each server, and the last as a ratio to the bare server's: the
figure to trust on shared hardware. The servers take turns within each round; ratios are medians over the rounds.
Needs h2load (nghttp2-client) and redis-server; builds what it runs. All on loopback, bounded in count and time.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TICKS = os.sysconf("SC_CLK_TCK")
METHOD = "/acsbroker.v1.TokenService/IssueToken"


def build():
    subprocess.run(["cargo", "build", "--release", "--quiet", "--bins", "--examples"], cwd=ROOT, check=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition, what, seconds=15):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise SystemExit(f"{what} did not happen within {seconds} s")


class Servers:
    """Starts processes and ends exactly those."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []

    def start(self, name, command, **options):
        log = open(self.folder / f"{name}.log", "w")
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, stdout=options.pop("stdout", log), **options)
        self.started.append(process)
        return process

    def stop(self):
        for process in self.started:
            process.send_signal(signal.SIGTERM)
        for process in self.started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()

    def dev(self, name, *flags):
        ready = self.folder / f"{name}.json"
        command = [ROOT / "target/release/acs-broker", "dev", "--ready-file", ready]
        for flag in ("--grpc-addr", "--admin-addr", "--emulator-addr", "--emulator-tls-addr"):
            command += [flag, "127.0.0.1:0"]
        process = self.start(name, [*command, *flags])
        wait_for(lambda: process.poll() is not None or ready.exists() and ready.read_text().strip(), f"{name} ready")
        if process.poll() is not None:
            raise SystemExit(f"{name} ended: see {self.folder / (name + '.log')}")
        return process, json.loads(ready.read_text())["grpc"]

    def redis(self):
        port = free_port()
        self.start("redis", ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", self.folder])

        def answers():
            try:
                with socket.create_connection(("127.0.0.1", port), 0.2) as connection:
                    connection.sendall(b"PING\r\n")
                    return connection.recv(7) == b"+PONG\r\n"
            except OSError:
                return False

        wait_for(answers, "redis-server ready")
        return f"redis://127.0.0.1:{port}"

    def bare(self, like):
        process = self.start(
            "bare", [ROOT / "target/release/examples/bare_server", f"http://{like}", "bench"], stdout=subprocess.PIPE, text=True
        )
        return process, process.stdout.readline().strip()


def cpu(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mib(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024


def request_body(folder):
    user = b"bench"
    message = b"\x0a" + bytes([len(user)]) + user + b"\x12\x01\x01"
    path = folder / "body.bin"
    path.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    return path


def load(address, body, folder, requests, connections, streams):
    log = folder / "h2load.log"
    log.unlink(missing_ok=True)
    out = subprocess.run(
        ["h2load", "-n", str(requests), "-c", str(connections), "-m", str(streams), "-t", "1", "-d", body,
         "-H", "content-type: application/grpc", "-H", "te: trailers", f"--log-file={log}", f"http://{address}{METHOD}"],
        check=True, capture_output=True, text=True, timeout=300,
    ).stdout
    if f"{requests} succeeded" not in out:
        raise SystemExit(f"not every request succeeded:\n{out}")
    # h2load takes a gRPC error for a success; the bytes of the answers tell.
    data = int(re.search(r"\((\d+)\) data", out)[1]) / requests
    times = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
    return {
        "rps": float(re.search(r"([\d.]+) req/s", out)[1]),
        "p50": times[len(times) // 2] / 1000,
        "p99": times[len(times) * 99 // 100] / 1000,
        "bytes": data,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--fill", type=int, default=100_000, help="cached tokens for the memory figure; 0 leaves it out")
    arguments = parser.parse_args()
    for tool in ("h2load", "redis-server"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is missing: apt-get install nghttp2-client redis-server")
    build()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="acs-broker-bench-"))
    servers = Servers(folder)
    try:
        embedded, embedded_address = servers.dev("embedded")
        redis_url = servers.redis()
        redis, redis_address = servers.dev("redis-broker", "--redis-url", redis_url)
        idle = {"embedded hit": rss_mib(embedded), "redis hit": rss_mib(redis)}
        bare, bare_address = servers.bare(embedded_address)
        servers.bare(redis_address)  # puts the same user into the other broker's cache
        targets = {
            "bare tonic": (bare, bare_address),
            "embedded hit": (embedded, embedded_address),
            "redis hit": (redis, redis_address),
        }
        body = request_body(folder)
        results = {name: [] for name in targets}
        for number in range(arguments.rounds + 1):
            for name, (process, address) in targets.items():
                before = cpu(process)
                result = load(address, body, folder, arguments.requests, arguments.connections, arguments.streams)
                result["cpu"] = (cpu(process) - before) / arguments.requests * 1e6
                if number > 0:  # the first round warms up
                    results[name].append(result)
        if max(results[n][0]["bytes"] for n in targets) - min(results[n][0]["bytes"] for n in targets) > 16:
            sys.exit(f"the answers differ in size: {[(n, results[n][0]['bytes']) for n in targets]}")
        print(f"{arguments.rounds} rounds of {arguments.requests} requests, {arguments.connections} connections x {arguments.streams} streams")
        print(f"{'server':<14}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'CPU us':>9}{'CPU ratio':>11}{'rps ratio':>11}{'bytes':>8}")
        for name, rounds in results.items():
            middle = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
            ratio = statistics.median(r["cpu"] / b["cpu"] for r, b in zip(rounds, results["bare tonic"]))
            speed = statistics.median(r["rps"] / b["rps"] for r, b in zip(rounds, results["bare tonic"]))
            print(f"{name:<14}{middle['rps']:>9.0f}{middle['p50']:>9.2f}{middle['p99']:>9.2f}{middle['cpu']:>9.1f}{ratio:>11.2f}{speed:>11.2f}{middle['bytes']:>8.0f}")
        if arguments.fill:
            for name, (process, address) in list(targets.items())[1:]:
                began = time.monotonic()
                subprocess.run([ROOT / "target/release/examples/fill", f"http://{address}", str(arguments.fill)], check=True, timeout=900)
                print(f"{name}: RSS idle {idle[name]:.0f} MiB, with {arguments.fill} cached tokens {rss_mib(process):.0f} MiB "
                      f"(emulator included; filled in {time.monotonic() - began:.0f} s)")
    finally:
        servers.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
