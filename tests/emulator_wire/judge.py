"""Runs cases against an emulator: prepares what a case needs, sends its request, and compares the answer.

A case has a request and the answer's status, headers and shape (see `shape`). Names in braces stand for live things
(see `world`). Every answer is also validated against the published schema of its operation.
"""
import re

import schemas
import shape
import wire
from operations import VERSIONS, service_of
from world import World


class Judge:
    """Runs cases and gathers what is wrong."""

    def __init__(self, connection_string):
        self.wire = wire.Wire(connection_string)
        self.schemas = schemas.Schemas()
        self.coverage = schemas.Coverage(self.schemas)
        self.problems = []
        self.ran = 0

    def run(self, case, version):
        """One case in one version; what is wrong with the answer is gathered under the case's name."""
        self.ran += 1
        name = f"{case['name']} [{version}]"
        try:
            found = self.judged(case, version)
        except AssertionError as failure:
            found = [str(failure)]
        except Exception as failure:  # pylint: disable=broad-except
            found = [f"{type(failure).__name__}: {failure}"]
        self.problems += [f"{name}: {problem}" for problem in found]
        return not found

    def judged(self, case, version):
        world = World(self.wire)
        for name in case.get("needs", []):
            world.filled(name if "{" in name else f"{{{name}}}")
        # What it names is made before the fault waits, lest the making meets it.
        world.filled([case["request"], case.get("headers"), case.get("body")])
        self.bearer(case, world)
        if "fault" in case:
            self.wire.control("POST", "faults", {"operation": case["operation"], "count": 1, **case["fault"]})
        answer = self.sent(case, version, world)
        for _ in range(300 if "until" in case else 0):
            if answer.status == case["until"]:
                break
            answer = self.sent(case, version, world)
        found = self.compared(case, version, world, answer)
        if case.get("follow") and not found:
            link = answer.json().get("nextLink", "")
            if not link.startswith(f"{self.wire.base}/"):
                return [f"nextLink is not a link to this host: {link[:200]!r}"]
            bearer = self.bearer(case, world)
            following = self.wire.send("GET", link.removeprefix(self.wire.base), bearer=bearer)
            once = {**case, "shape": {**case["shape"], "nextLink?": "link"}}
            once["shape"].pop("nextLink", None)
            found = [f"the next page: {each}" for each in self.compared(once, version, world, following)]
        return found

    def bearer(self, case, world):
        who = case.get("as", "key")
        if who in ("key", "nobody", "tampered"):
            return None
        if who.startswith("bearer "):
            return world.filled(who.removeprefix("bearer "))
        world[who]
        return world.tokens[who]

    def sent(self, case, version, world):
        method, path = case["request"].split(" ", 1)
        query = {"api-version": version, **case.get("query", {})}
        pairs = [f"{name}={wire.encoded(str(world.filled(value)))}" for name, value in query.items() if value is not None]
        target = "?".join([world.filled(path, quote=True), "&".join(pairs)]) if pairs else world.filled(path, quote=True)
        headers = world.filled(case.get("headers", {}))
        body = world.filled(case["body"]) if "body" in case else None
        who = case.get("as", "key")
        if who == "tampered":
            signed = wire.signature(method, target, self.wire.host, b"{}", self.wire.key)
            headers = {**signed, **headers}
        is_patch = method == "PATCH" and body is not None
        if is_patch and "content-type" not in {name.lower() for name in headers}:
            headers["content-type"] = "application/merge-patch+json"
        headers.setdefault("x-ms-client-request-id", "0f8b2c54-7a1d-4e0e-9d7c-3b1a5c6d7e8f")
        return self.wire.send(method, target, body, headers=headers, bearer=self.bearer(case, world), signed=who == "key")

    def compared(self, case, version, world, answer):
        statuses = case["status"] if isinstance(case["status"], list) else [case["status"]]
        if answer.status not in statuses:
            return [f"expected {case['status']}, got {answer.shown()}"]
        service = service_of(case["operation"])
        found = self.headers(service, version, answer)
        for name, pattern in case.get("has", {}).items():
            wanted = re.sub(r"\{([a-z_]+)\}", lambda f: re.escape(self.wire.base if f[1] == "base" else world[f[1]]), pattern)
            value = answer.headers.get(name)
            if value is None or not re.fullmatch(wanted, value):
                found.append(f"header {name} is {value!r}, not {wanted}")
        for name in case.get("lacks", []):
            if name in answer.headers:
                found.append(f"header {name} is there: {answer.headers[name]!r}")
        wanted = world.filled(case.get("shape")) if answer.status != 204 else None
        if wanted is None:
            if answer.body:
                found.append(f"a body where none is expected: {answer.body[:100]!r}")
        else:
            try:
                found += shape.differences(wanted, answer.json())
            except ValueError:
                found.append(f"no JSON: {answer.body[:100]!r}")
        if version in VERSIONS[service]:
            published = self.schemas.of_answer(case["operation"], version, answer)
            found += [f"against the published schema: {each}" for each in published]
            if not found:
                self.coverage.saw(case["operation"], version, answer.status)
        return found

    def headers(self, service, version, answer):
        """What recorded answers have in common."""
        found = []
        kind = answer.headers.get("content-type")
        wanted = (None,) if not answer.body else ("application/json; charset=utf-8",)
        if answer.body and answer.status >= 400:
            wanted = ("application/json", "application/problem+json") if service == "sms" else ("application/json",)
        if kind not in wanted:
            found.append(f"content-type is {kind!r}, not {' or '.join(map(str, wanted))}")
        if answer.status < 300:
            supported = answer.headers.get("api-supported-versions", "").split(", ")
            if version not in supported:
                found.append(f"api-supported-versions {supported} lacks {version}")
        for name in ("ms-cv", "x-processing-time", "x-cache", "date"):
            if name not in answer.headers:
                found.append(f"header {name} is missing")
        is_echoed = "x-ms-client-request-id" in answer.headers
        if service == "identity" and not is_echoed or service in ("sms", "chat") and is_echoed:
            found.append(f"x-ms-client-request-id is {'' if is_echoed else 'not '}echoed")
        if service == "email" and answer.status >= 400 and answer.headers.get("x-ms-error-code") is None:
            found.append("header x-ms-error-code is missing")
        return found

    def report(self):
        """Prints what was found. Whether all is well."""
        for problem in self.problems:
            print(f"NOT AS PUBLISHED  {problem}")
        print(f"{self.ran} cases, {len(self.problems)} problems")
        return not self.problems
