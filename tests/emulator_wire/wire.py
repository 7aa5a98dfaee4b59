"""Requests on the wire, signed by hand from the published description of the scheme. It shares nothing with any SDK.

Used by every judge here. It never follows a redirect, retries or repairs what it was told to send.
"""
import base64
import datetime
import hashlib
import hmac
import http.client
import json
import re
import urllib.parse


class Answer:
    """What came back."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = {name.lower(): value for name, value in headers}
        self.body = body

    def json(self):
        return json.loads(self.body)

    def shown(self):
        return f"{self.status} {self.body[:600]!r}"


def parsed(connection_string):
    """Host with port, and access key, of a connection string for HTTP."""
    found = re.fullmatch(r"endpoint=http://([^/;]+)/;accesskey=(.+)", connection_string)
    if not found:
        raise SystemExit("the connection string is not one for HTTP")
    return found[1], found[2]


def http_date():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")


def encoded(segment):
    """A path segment as the SDKs write it."""
    return urllib.parse.quote(segment, safe="")


def signature(method, target, host, body, key, date=None):
    """The headers of the access key scheme."""
    date = date or http_date()
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    text = f"{method}\n{target}\n{date};{host};{digest}"
    signed = base64.b64encode(hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()).decode()
    return {
        "x-ms-date": date,
        "x-ms-content-sha256": digest,
        "authorization": f"HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature={signed}",
    }


class Wire:
    """One emulator, over one connection at a time."""

    def __init__(self, connection_string):
        self.host, self.key = parsed(connection_string)
        self.base = f"http://{self.host}"
        self.connection = None

    def send(self, method, target, body=None, headers=None, bearer=None, signed=True):
        """Sends and reads the answer. `body`: bytes as they are, anything else but None as JSON."""
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        all_headers = {"host": self.host, "content-length": str(len(raw))}
        if raw or method in ("POST", "PUT", "PATCH"):
            all_headers["content-type"] = "application/json"
        if bearer is not None:
            all_headers["authorization"] = f"Bearer {bearer}"
        elif signed:
            all_headers.update(signature(method, target, self.host, raw, self.key))
        all_headers.update({name.lower(): value for name, value in (headers or {}).items()})
        for attempt in (1, 2):
            is_new = self.connection is None
            if is_new:
                self.connection = http.client.HTTPConnection(self.host, timeout=30)
            try:
                self.connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
                for name, value in all_headers.items():
                    self.connection.putheader(name, value)
                self.connection.endheaders(raw)
                response = self.connection.getresponse()
                answer = Answer(response.status, response.getheaders(), response.read())
                if response.will_close:
                    self.close()
                return answer
            except (http.client.HTTPException, OSError):
                self.close()
                # A kept connection may have been closed meanwhile; a new one must not be.
                if is_new or attempt == 2:
                    raise
        raise AssertionError("unreachable")

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def control(self, method, path, body=None, status=None):
        """A request to the control paths; its answer must have the status, or be a success."""
        answer = self.send(method, f"/_emulator/{path}", body, signed=False)
        if answer.status != status if status else answer.status >= 300:
            raise AssertionError(f"{method} /_emulator/{path}: {answer.shown()}")
        return answer.json() if answer.body else None


def _check_against_the_published_scheme():
    """The scheme's own arithmetic, against a signature that two official SDKs make for the same request."""
    made = signature(
        "POST", "/identities?api-version=2023-10-01", "contoso.communication.azure.com",
        b'{"createTokenWithScopes":["chat","voip"],"expiresInMinutes":60}',
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "Tue, 04 Mar 2025 05:06:07 GMT",
    )
    assert made["authorization"].endswith("&Signature=A1upm3yb4/iMMm2iBDz+A+C5/3VlE2L3klOeb7+nqoA="), made


_check_against_the_published_scheme()
