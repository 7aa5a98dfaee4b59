"""What the fuzzer does to good requests. Everything here is drawn from one random stream, so a seed repeats a run."""
import copy
import json

import wire

NUMBERS = [0, -1, 1, 59, 60, 1440, 1441, 2**31, -(2**31) - 1, 2**53 + 1, 2**63, 2**64, 10**30, 1.5, -0.0, 1e308]
RAW_NUMBERS = [
    "1e400", "-1e400", "1e-400", "9" * 500, "0" * 40 + "1", "NaN", "Infinity", "-", "0x10", "1.", ".5", "1e", "+1", "00",
]
STRINGS = [
    "", " ", "\x00", "a\x00b", "\ud800", "\udfff\ud800", "\u202e", "\ufeff", "🚢" * 50, "ß" * 2000, "é" * 1000, "A" * 5000,
    "a" * 70_000, "%s%n", "../../etc", "null", "true", "<script>", "' OR 1=1 --", "\r\nX: y", "{", "[", '"', "\\",
    "\u0001\u001f\u007f", "8:acs:", "8:acs:x_y", "19:@thread.v2", "+", "+1", "+" + "9" * 40, "@", "a@", "@b", "a@b@c",
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.9999999Z", "2024-02-30T00:00:00Z", "Mon, 99 Foo 0000 99:99:99 GMT", "12:00",
    "00000000-0000-0000-0000-000000000000", "==", "A===", "AAAA\n",
]
TYPES = [
    "text/plain", "application/xml", "application/json; charset=utf-16", "application/json;", "APPLICATION/JSON",
    "application/merge-patch+json", "", "json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
    "application/json, text/plain", "*/*", "\x80\xff",
]
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW", "post", "PROPFIND", "X" * 40]
QUERIES = [
    "", "api-version=", "api-version", "api-version=2023-10-01&api-version=2025-06-30", "api-version=%ff", "&&&=&",
    "api-version=2023-10-0x", "api-version=9999-99-99", "api-version=2021-03-07%00", "=2021-03-07", "API-VERSION=2021-03-07",
    "%zz", "api-version=%", "api-version=a+b",
]
PAGE = [
    "-1", "0", "1", "200", "201", "99999999999999999999", "abc", "", "1.5", "%00", "1e3", "２", "-9223372036854775809",
]
STARTS = [
    "yesterday", "0", "9999-99-99T99:99:99Z", "2020-01-01", "", "%ff", "-1", "292278994-08-17T07:12:55.192Z",
    "2020-01-01T00:00:00+99:99",
]
SEGMENTS = [
    "", ".", "..", "%2e%2e", "%2F", "%00", "%ff%fe", "%", "%zz", "%25", "a" * 3000, "é", "😀", ":", ":issueAccessToken", "@",
    "8%3Aacs%3A", "null", "19%3Ax%40thread.v2", "1", "-1", "9" * 60, "identities", "chat", "sms", ";a=b", "a%20b", "+", "*",
]
_HMAC = "HMAC-SHA256 SignedHeaders="
AUTHORIZATIONS = [
    "", "HMAC-SHA256", "HMAC-SHA256 ", _HMAC, f"{_HMAC}&Signature=", f"{_HMAC}x-ms-date;host;x-ms-content-sha256",
    "HMAC-SHA256 Signature=AAAA", f"{_HMAC}host&Signature=!!!", f"{_HMAC}a;b;c;d&Signature=AAAA&Signature=BBBB",
    f"{_HMAC}=&&;;&Signature===", _HMAC + ";".join(["host"] * 500) + "&Signature=AAAA", "Bearer", "Bearer ", "Bearer a.b.c",
    "Bearer " + "A" * 9000, "Bearer eyJhbGciOiJub25lIn0.e30.", "bearer eyJhbGciOiJSUzI1NiJ9.e30.AAAA", "Basic YTpi",
    "Bearer " + "." * 500, "\x80\x81", "Bearer eyJhbGciOiJSUzI1NiJ9." + "W10" * 400 + ".AA",
]
HEADERS = [
    "operation-id", "repeatability-request-id", "x-ms-client-request-id", "x-ms-date", "x-ms-content-sha256", "date", "accept",
    "accept-encoding", "content-encoding", "if-match", "range", "cookie", "origin", "forwarded", "x-forwarded-host",
    "traceparent", "upgrade", "te", "via",
]
VALUES = [
    "", " ", "x", "\x80\xff\xfe", "é", "a" * 500, "0", "-1", "gzip", "deflate, br", "bytes=0-", "not-a-uuid", "h2c", "\t",
    "00000000-0000-0000-0000-000000000000", "Tue, 04 Mar 2025 05:06:07 GMT", "Thu, 01 Jan 1970 00:00:00 GMT",
    "Fri, 31 Dec 9999 23:59:59 GMT", "a,b;c=d", "%00", "null",
]
BODIES = [b"", b" ", b"\n\n", b"null", b"[]", b"{}", b"1", b'""', b"{", b"}", b"\x00", b"true", b"[" * 30]
NESTS = [(b"[", b"]"), (b'{"a":', b"}"), (b'{"content":', b"}"), (b'{"participants":[', b"]}")]
QUOTES = [b'"\xff', b'"\xc0\x80', b'"\xed\xa0\x80', b'"\\ud800', b'"\\u0000', b'"\\x']


def places(value, path=()):
    """Where in a JSON value there is something to replace."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield from places(each, path + (key,))


def strange(random):
    """A JSON value that nobody expects."""
    return random.choice([
        lambda: None, lambda: True, lambda: False, lambda: random.choice(NUMBERS), lambda: random.choice(STRINGS), lambda: [], lambda: {},
        lambda: [None] * random.choice([1, 3, 101, 300]), lambda: {random.choice(STRINGS): random.choice(STRINGS)},
        lambda: [[[{}]]], lambda: [random.choice(STRINGS) for _ in range(5)], lambda: {"id": 1, "rawId": None, "kind": []},
    ])()


def put(value, path, new):
    if not path:
        return new
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = new
    return value


def mangled_json(random, body):
    """A JSON value with something replaced, taken away, added or repeated; as bytes."""
    value = copy.deepcopy(body) if body is not None else {}
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        path = random.choice(list(places(value)))
        holder = value
        for key in path[:-1]:
            holder = holder[key]
        choice = random.random()
        if choice < 0.55 or not path:
            value = put(value, path, strange(random))
        elif choice < 0.75:
            del holder[path[-1]]
        elif isinstance(holder, dict):
            holder[random.choice(STRINGS)] = strange(random)
        elif len(json.dumps(holder)) < 5000:
            # Not longer ones, again and again: a hundred megabytes would test the fuzzer.
            holder.extend(copy.deepcopy(holder) * random.choice([1, 40]))
    text = json.dumps(value)
    if random.random() < 0.2:
        text = text.replace(":", f":{random.choice(RAW_NUMBERS)},\"again\":", 1)
    return text.encode()


def body(random, value):
    """The bytes of a malformed body."""
    text = json.dumps(value if value is not None else {}).encode()
    choice = random.random()
    if choice < 0.5:
        return mangled_json(random, value)
    if choice < 0.6:
        return text[: random.randrange(len(text) + 1)]
    if choice < 0.68:
        at = random.randrange(len(text) + 1)
        junk = bytes(random.randrange(256) for _ in range(random.choice([1, 2, 8])))
        return text[:at] + junk + text[at:]
    if choice < 0.74:
        depth = random.choice([50, 127, 128, 129, 1000, 20_000])
        opening, closing = random.choice(NESTS)
        return opening * depth + random.choice([b"1", b"", b"null"]) + closing * random.choice([depth, 0, depth - 1])
    if choice < 0.8:
        return bytes(random.randrange(256) for _ in range(random.choice([1, 7, 200, 3000])))
    if choice < 0.86:
        return random.choice([*BODIES, b"\xef\xbb\xbf" + text])
    if choice < 0.92:
        utf_16 = text.decode().encode("utf-16")
        return random.choice([utf_16, text + text, text + b"\x00", text.replace(b'"', b"'"), text.upper()])
    if choice < 0.96:
        return text.replace(b'"', random.choice(QUOTES), random.choice([1, 9]))
    return b'{"a":"' + b"x" * random.choice([64 * 1024, 300 * 1024]) + b'"}'


class Request:
    """A request before it is signed: what the fuzzer changes."""

    def __init__(self, operation, version, method, path, query, headers, value, bearer):
        self.operation, self.version, self.method, self.path, self.query = operation, version, method, path, query
        self.headers, self.value, self.bearer = dict(headers), value, bearer
        self.raw = b"" if value is None else json.dumps(value).encode()
        # What was changed: "body", "method", "path", "query", "headers".
        self.changed = set()
        # Whether HTTP itself may refuse it, before anything knows of a service.
        self.is_http_trouble = False
        self.authorization = None
        self.is_signed = True
        self.repeated = []

    @property
    def target(self):
        return f"{self.path}?{self.query}" if self.query is not None else self.path

    def change(self, random):
        """Changes one thing."""
        what = random.choices(["body", "headers", "query", "path", "method", "type", "authorization"], [46, 14, 14, 10, 5, 5, 6])[0]
        if what == "body":
            self.raw = body(random, self.value)
            self.changed.add("body")
        elif what == "headers":
            for _ in range(random.choice([1, 1, 3])):
                self.headers[random.choice(HEADERS)] = random.choice(VALUES)
            if random.random() < 0.05:
                self.headers["x-long"] = "a" * random.choice([8000, 60_000])
                self.is_http_trouble = True
            if random.random() < 0.05:
                self.headers.update({f"x-{n}": "1" for n in range(random.choice([50, 200]))})
                self.is_http_trouble = True
            self.changed.add("headers")
        elif what == "query":
            self.query = random.choice([
                lambda: random.choice(QUERIES), lambda: None, lambda: f"{self.query}&maxPageSize={random.choice(PAGE)}",
                lambda: f"{self.query}&skip={random.choice(PAGE)}&maxPageSize={random.choice(PAGE)}",
                lambda: f"{self.query}&startTime={random.choice(STARTS)}", lambda: f"{self.query}&syncState={random.choice(SEGMENTS)}",
                lambda: f"{self.query}&" + "&".join(f"a{n}=b" for n in range(random.choice([10, 1000]))), lambda: f"{self.query}#frag",
            ])()
            self.changed.add("query")
        elif what == "path":
            segments = self.path.split("/")
            at = random.randrange(1, len(segments)) if len(segments) > 1 else 0
            change = random.random()
            if change < 0.5:
                segments[at] = random.choice(SEGMENTS)
            elif change < 0.7:
                segments.insert(at, random.choice(SEGMENTS))
            elif change < 0.85:
                del segments[at]
            else:
                segments = segments[:at] + [segments[at].swapcase()] + segments[at + 1:]
            self.path = "/".join(segments) or "/"
            if not self.path.startswith("/"):
                self.path = "/" + self.path
            self.changed.add("path")
        elif what == "method":
            self.method = random.choice(METHODS)
            self.changed.add("method")
        elif what == "type":
            self.headers["content-type"] = random.choice(TYPES)
            self.changed.add("headers")
        else:
            self.authorization = random.choice(AUTHORIZATIONS)
            self.changed.add("headers")

    def head(self, host, key):
        """Request line and headers, signed over what is sent."""
        headers = {"host": host, "content-length": str(len(self.raw))}
        if self.raw:
            headers["content-type"] = "application/json"
        target = self.target
        if self.authorization is not None:
            headers["authorization"] = self.authorization
        elif self.bearer is not None:
            headers["authorization"] = f"Bearer {self.bearer}"
        elif self.is_signed:
            headers.update(wire.signature(self.method, target, host, self.raw, key))
        headers.update(self.headers)
        lines = [f"{self.method} {target} HTTP/1.1".encode("utf-8")]
        for name, value in headers.items():
            lines.append(name.encode() + b": " + value.encode("latin-1", "replace"))
        # HTTP itself refuses what no request line may hold.
        if any(ord(c) < 33 or ord(c) > 126 for c in target + self.method) or len(target) > 6000 or "#" in target:
            self.is_http_trouble = True
        return b"\r\n".join(lines) + b"\r\n\r\n"


LENGTHS = [b"-1", b"abc", b"99999999999999999999", b"", b"+5", b"0x5", b"5, 6"]
PROTOCOLS = [b"", b" HTTP/1.0", b" HTTP/2.0", b" HTTP/0.9", b" http/1.1", b" HTTP/1.1 x"]
HOSTS = [b"host : ", b"ho\x00st: ", b" host: ", b"x-host: ", b"host: \x00"]
CHUNKS = [
    b"zz\r\nx", b"5\r\nab", b"ffffffffffffffffff\r\n", b"3\r\nabc\r\n0\r\n", b"-1\r\n", b"0\r\n\r\n",
    b"5;" + b"a" * 5000 + b"\r\n",
]
# A greeting in HTTP/2, one in TLS, targets that are no paths.
FOREIGN = [
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40),
    b"GET http://other.example/identities HTTP/1.1\r\nhost: x\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
    b"CONNECT other.example:443 HTTP/1.1\r\nhost: x\r\n\r\n",
]


def broken(random, head, raw):
    """What is no proper HTTP any more; and whether a whole request stands before it."""
    whole = head + raw
    lines = [line for line in head.split(b"\r\n")[:-2] if not line.startswith(b"content-length")]

    def said(*headers):
        """The request with these headers in place of its length."""
        return b"\r\n".join(lines + list(headers)) + b"\r\n\r\n"

    def longer():
        return said(b"content-length: %d" % (len(raw) + random.choice([1, 100, 10_000]))) + raw

    def junk(*sizes):
        return bytes(random.randrange(256) for _ in range(random.choice(sizes)))

    ways = [
        lambda: (said(b"content-length: " + random.choice(LENGTHS)) + raw, False),
        lambda: (longer(), False),
        lambda: (said(b"content-length: %d" % max(0, len(raw) - 3)) + raw, True),
        lambda: (said(b"content-length: 3", b"content-length: 5") + raw, False),
        lambda: (said(b"transfer-encoding: chunked") + random.choice(CHUNKS), False),
        lambda: (head[:-2] + b"transfer-encoding: chunked\r\n\r\n" + raw, False),
        lambda: (whole + junk(1, 30, 3000), True),
        lambda: (whole + b"GET / HTTP/9.9\r\n\r\n", True),
        lambda: (whole + whole[: random.randrange(len(whole))], True),
        lambda: (whole[: random.randrange(1, len(whole))], False),
        lambda: (whole.replace(b"\r\n", b"\n"), False),
        lambda: (whole.replace(b" HTTP/1.1", random.choice(PROTOCOLS), 1), False),
        lambda: (head.replace(b"host: ", random.choice(HOSTS), 1) + raw, False),
        lambda: (junk(1, 10, 500, 5000), False),
        lambda: (random.choice(FOREIGN), False),
        lambda: (b"\r\n" * random.choice([1, 50, 3000]), False),
        lambda: (b"GET /" + b"a" * random.choice([5000, 70_000]) + b" HTTP/1.1\r\nhost: x\r\n\r\n", False),
        lambda: (head[:-2] + b"x-n: " + b"a" * 100_000, False),
        lambda: (head[:-2] + b"expect: 100-continue\r\n\r\n" + raw, False),
        lambda: (head[:-2] + b" folded: yes\r\n\r\n" + raw, False),
    ]
    return random.choice(ways)()
