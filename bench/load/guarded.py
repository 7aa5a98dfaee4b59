#!/usr/bin/env python3
"""What it costs to be sure: IssueToken from the cache with mTLS, policy, audit and sealing, and without.

Four servers take turns within each round: a bare tonic server that returns the same bytes, in plain text and with mutual
TLS, and brokers on the embedded store, one that is as open as `dev`, one with everything on. Prints requests/s, p50, p99 and
CPU per request of each, and ratios of CPU within a round (medians over the rounds). Each call of the guarded broker is
judged by a policy, leaves an audit record, and opens a sealed token. Needs openssl; builds what it runs. All on loopback.
"""
import argparse
import base64
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from run import ROOT, Servers, build, cpu, free_port, wait_for  # noqa: E402

BROKER = ROOT / "target/release/acs-broker"
EXAMPLES = ROOT / "target/release/examples"
CLIENT = "spiffe://bench/caller"
POLICY = f"""
[[callers]]
name = "bench"
match = [{{ spiffe = "{CLIENT}" }}]
rpcs = ["TokenService/*"]
scopes = ["chat"]
max_validity = "24h"
user_prefixes = ["bench"]
"""


def certificates(folder):
    """An authority, and certificates of the server and of a caller."""

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-days", "2", "-subj", "/CN=bench authority", "-keyout", "ca.key", "-out", "ca.crt")
    for name, names in (("server", "DNS:localhost,IP:127.0.0.1"), ("client", f"URI:{CLIENT}")):
        openssl("req", *key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (folder / f"{name}.ext").write_text(f"basicConstraints=critical,CA:FALSE\nsubjectAltName={names}\n")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                "-extfile", f"{name}.ext", "-out", f"{name}.crt")
    return [folder / "ca.crt", folder / "client.crt", folder / "client.key"]


def start_broker(servers, folder, name, connection_string, more):
    port, probe = free_port(), free_port()
    settings = {
        "SERVER__ADDRESS": f"127.0.0.1:{port}", "ADMIN__ADDRESS": f"127.0.0.1:{free_port()}",
        "SERVER__PROBE_ADDRESS": f"127.0.0.1:{probe}", "STORE__EMBEDDED__PATH": folder / f"{name}.redb",
        "ACS__CONNECTION_STRING": connection_string, **more,
    }
    environment = {f"ACS_BROKER__{key}": str(value) for key, value in settings.items()}
    process = servers.start(name, [BROKER, "serve"], env=environment)
    check = [BROKER, "healthcheck", "--addr", f"127.0.0.1:{probe}"]
    wait_for(lambda: subprocess.run(check, capture_output=True).returncode == 0, f"{name} ready")
    return process, f"127.0.0.1:{port}"


def start_bare(servers, name, like, tls=()):
    process = servers.start(name, [EXAMPLES / "bare_server", f"http://{like}", "bench", *tls], stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


def load(url, requests, at_once, tls):
    out = subprocess.run([EXAMPLES / "guarded", url, str(requests), str(at_once), *tls], check=True, capture_output=True,
                         text=True, timeout=300).stdout
    took, p50, p99 = map(float, out.split())
    return {"rps": requests / took, "p50": p50, "p99": p99}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--no-build", action="store_true")
    arguments = parser.parse_args()
    if not shutil.which("openssl"):
        sys.exit("openssl is missing: apt-get install openssl")
    if not arguments.no_build:
        build()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="acs-broker-bench-"))
    servers = Servers(folder)
    try:
        client = certificates(folder)
        server = [folder / "server.crt", folder / "server.key", folder / "ca.crt"]
        ready = folder / "emulator.json"
        servers.start("emulator", [BROKER, "emulator", "--ready-file", ready, "--emulator-addr", "127.0.0.1:0",
                                   "--emulator-tls-addr", "127.0.0.1:0"])
        wait_for(lambda: ready.exists() and ready.read_text().strip(), "emulator ready")
        connection_string = json.loads(ready.read_text())["connection_string"]
        (folder / "policy.toml").write_text(POLICY)
        (folder / "seal.keys").write_text("bench:" + base64.b64encode(os.urandom(32)).decode() + "\n")
        (folder / "audit.key").write_text(os.urandom(32).hex())
        open_broker, open_address = start_broker(servers, folder, "open", connection_string, {})
        guarded, guarded_address = start_broker(servers, folder, "guarded", connection_string, {
            "SERVER__TLS__CERT_FILE": server[0], "SERVER__TLS__KEY_FILE": server[1], "SERVER__TLS__CLIENT_CA_FILE": server[2],
            "AUTH__MODE": "policy", "AUTH__POLICY_FILE": folder / "policy.toml",
            "AUDIT__FILE": folder / "audit.log", "AUDIT__MAX_BYTES": 17_179_869_184, "AUDIT__KEY_FILE": folder / "audit.key",
            "STORE__SEAL__KEYS_FILE": folder / "seal.keys", "STORE__SEAL__HASH_KEY": os.urandom(32).hex(),
        })
        bare, bare_address = start_bare(servers, "bare", open_address)
        bare_tls, bare_tls_address = start_bare(servers, "bare-tls", open_address, server)
        targets = {
            "bare tonic": (bare, f"http://{bare_address}", []),
            "bare tonic, mTLS": (bare_tls, f"https://{bare_tls_address}".replace("127.0.0.1", "localhost"), client),
            "broker, open": (open_broker, f"http://{open_address}", []),
            "broker, guarded": (guarded, f"https://{guarded_address}".replace("127.0.0.1", "localhost"), client),
        }
        results = {name: [] for name in targets}
        for number in range(arguments.rounds + 1):
            for name, (process, url, tls) in targets.items():
                before = cpu(process)
                result = load(url, arguments.requests, arguments.at_once, tls)
                result["cpu"] = (cpu(process) - before) / arguments.requests * 1e6
                if number > 0:  # the first round warms up
                    results[name].append(result)
        records = sum(1 for _ in open(folder / "audit.log"))
        wanted = (arguments.rounds + 1) * arguments.requests
        if records < wanted:
            sys.exit(f"{records} audit records for {wanted} calls")
        print(f"{arguments.rounds} rounds of {arguments.requests} requests, {arguments.at_once} at a time; {records} audit records")
        print(f"{'server':<18}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'CPU us':>9}")
        for name, rounds in results.items():
            middle = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
            print(f"{name:<18}{middle['rps']:>9.0f}{middle['p50']:>9.2f}{middle['p99']:>9.2f}{middle['cpu']:>9.1f}")
        for one, other in (("broker, open", "bare tonic"), ("broker, guarded", "bare tonic, mTLS"), ("broker, guarded", "broker, open")):
            ratio = statistics.median(a["cpu"] / b["cpu"] for a, b in zip(results[one], results[other]))
            print(f"CPU of {one} / {other}: {ratio:.2f}")
    finally:
        servers.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
