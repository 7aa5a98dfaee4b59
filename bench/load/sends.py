#!/usr/bin/env python3
"""Load of SendSms and SendChatMessage, beside a bare tonic server that makes the same call of ACS, in the same run.

Prints requests/s, p50, p99 and CPU per request of each server, and the last as a ratio to the bare server's: the figure
to trust on shared hardware. ACS is an emulator process of its own, so that its work is nobody's. The servers take turns
within each round; ratios are medians over the rounds. Limits are off: they would end the load after a second.
Needs redis-server; builds what it runs. All on loopback, bounded in count and time.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

from run import ROOT, Servers, cpu, free_port, wait_for


def emulator(servers, folder, binaries):
    ready = folder / "emulator.json"
    command = [binaries / "acs-broker", "emulator", "--emulator-addr", "127.0.0.1:0", "--emulator-tls-addr", "127.0.0.1:0"]
    process = servers.start("emulator", [*command, "--ready-file", ready], env={"ACS_BROKER__TELEMETRY__FILTER": "warn"})
    wait_for(lambda: process.poll() is not None or ready.exists() and ready.read_text().strip(), "emulator ready")
    return json.loads(ready.read_text())["connection_string"]


def broker(servers, name, binaries, connection_string, settings):
    grpc, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
    everywhere = {
        "SERVER__ADDRESS": grpc, "ADMIN__ADDRESS": admin, "ACS__CONNECTION_STRING": connection_string,
        "MESSAGES__SMS__SENDERS": "+18005550100", "MESSAGES__LIMITS": "0", "TELEMETRY__FILTER": "warn",
    }
    environment = {f"ACS_BROKER__{key}": str(value) for key, value in {**everywhere, **settings}.items()}
    process = servers.start(name, [binaries / "acs-broker", "serve"], env=environment)
    health = [binaries / "acs-broker", "healthcheck", "--addr", grpc]
    wait_for(lambda: subprocess.run(health, capture_output=True).returncode == 0, f"{name} ready")
    return process, f"http://{grpc}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--profile", choices=["release", "debug"], default="release", help="debug only to try the driver")
    arguments = parser.parse_args()
    if not shutil.which("redis-server"):
        sys.exit("redis-server is missing: apt-get install redis-server")
    flags = ["--release"] if arguments.profile == "release" else []
    subprocess.run(["cargo", "build", *flags, "--quiet", "--bins", "--examples"], cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    binaries = target / arguments.profile
    folder = pathlib.Path(tempfile.mkdtemp(prefix="acs-broker-bench-"))
    servers = Servers(folder)
    try:
        acs = emulator(servers, folder, binaries)
        embedded = broker(servers, "embedded", binaries, acs, {"STORE__EMBEDDED__PATH": folder / "store.redb"})
        redis_settings = {"STORE__BACKEND": "redis", "STORE__REDIS__URL": servers.redis(), "STORE__REDIS__TIMEOUT": "2s"}
        # Another store has another identity for the same user; each makes its own thread.
        redis = broker(servers, "redis-broker", binaries, acs, redis_settings)
        bare = servers.start(
            "bare", [binaries / "examples/bare_sender", acs, redis[1]], stdout=subprocess.PIPE, text=True
        )
        bare_at = f"http://{bare.stdout.readline().strip()}"
        targets = {
            "bare tonic": (bare, bare_at, redis[1]),
            "embedded": (*embedded, embedded[1]),
            "redis": (*redis, redis[1]),
        }
        for kind in ("sms", "chat"):
            results = {name: [] for name in targets}
            for number in range(arguments.rounds + 1):
                for name, (process, address, home) in targets.items():
                    before = cpu(process)
                    command = [binaries / "examples/sends", address, kind, str(arguments.requests), str(arguments.at_once), home]
                    out = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout
                    took, p50, p99 = map(float, out.split())
                    spent = (cpu(process) - before) / arguments.requests * 1e6
                    if number > 0:  # the first round warms up
                        results[name].append({"rps": arguments.requests / took, "p50": p50, "p99": p99, "cpu": spent})
            print(f"{kind}: {arguments.rounds} rounds of {arguments.requests} requests, {arguments.at_once} at a time")
            print(f"{'server':<14}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'CPU us':>9}{'CPU ratio':>11}{'p50 ratio':>11}")
            for name, rounds in results.items():
                middle = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
                pairs = list(zip(rounds, results["bare tonic"]))
                ratio = {key: statistics.median(r[key] / b[key] for r, b in pairs) for key in ("cpu", "p50")}
                print(f"{name:<14}{middle['rps']:>9.0f}{middle['p50']:>9.2f}{middle['p99']:>9.2f}{middle['cpu']:>9.1f}"
                      f"{ratio['cpu']:>11.2f}{ratio['p50']:>11.2f}")
    finally:
        servers.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
