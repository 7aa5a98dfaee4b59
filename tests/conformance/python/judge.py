"""What the judges share: the SDK clients under watch, and the emulator's control paths.

Run by `run.py`. The environment says where the emulator is: ACS_CONNECTION_STRING (https) for the SDKs, and
ACS_EMULATOR_HTTP for its control paths. The SDKs are not changed and trust the emulator through its CA file alone
(REQUESTS_CA_BUNDLE, SSL_CERT_FILE). Synchronous and asynchronous clients are judged by the same cases: what an
asynchronous one returns is awaited here. Every call of a watched client is written down, for `run.py` to find the
public method that nobody called.
"""

import asyncio
import base64
import functools
import importlib
import inspect
import json
import os
import time
import unittest
import urllib.parse
import urllib.request

from azure.core.async_paging import AsyncItemPaged
from azure.core.exceptions import HttpResponseError
from azure.core.paging import ItemPaged
from azure.core.polling import AsyncLROPoller, LROPoller

CONNECTION_STRING = os.environ["ACS_CONNECTION_STRING"]
CONTROL = os.environ["ACS_EMULATOR_HTTP"].rstrip("/") + "/_emulator/"
DENIED = "Denied by the resource provider."
#: What an operation that failed is noted as: the answer that says so has the status 200.
FAILED = "failed"

#: Well-known values of the emulator's test issuer: see docs/emulator.md.
TENANT = "00000000-ac5b-4000-8000-000000000000"
OWNER = "00000000-ac5b-4000-8000-000000000001"
STRANGER = "00000000-ac5b-4000-8000-000000000002"
TEAMS_APP = "00000000-ac5b-4000-8000-000000000003"
TEAMS_USER = "00000000-ac5b-4000-8000-000000000021"

LOOP = asyncio.new_event_loop()
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def endpoint_and_key():
    """Without the slash at the end: the Python clients sign the endpoint as they got it."""
    parts = dict(part.split("=", 1) for part in CONNECTION_STRING.split(";"))
    return parts["endpoint"].rstrip("/"), parts["accesskey"]


def with_a_wrong_key():
    return f"endpoint={endpoint_and_key()[0]};accesskey={base64.b64encode(b'another key').decode()}"


def control(method, path, body=None):
    """One request to the emulator's control paths; the answer as JSON, bytes, or nothing."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} if data else {}
    request = urllib.request.Request(CONTROL + path, data=data, method=method, headers=headers)
    with _DIRECT.open(request, timeout=20) as response:
        content = response.read()
        is_json = response.headers.get_content_type() == "application/json"
    return (json.loads(content) if is_json else content) if content else None


def messages(**match):
    """What the emulator was asked to send, newest first."""
    return control("GET", "messages?" + urllib.parse.urlencode(match))["messages"]


def message(message_id):
    return control("GET", "messages/" + urllib.parse.quote(message_id, safe=""))


def wait_for(count=1, **match):
    return control("POST", "messages/wait", {"match": match, "count": count, "timeout_ms": 10_000})["messages"]


def advance(by):
    """Moves the emulator's clock, such as `61m`; the answer says what it then shows."""
    return control("POST", "clock", {"advance": by})["now"]


def calls(operation):
    return control("GET", "calls")[operation]


def fault(operation, status, retry_after=None, **more):
    """Has the next request of the operation answered with this status."""
    wanted = {"effect": "answer", "status": status, **more}
    if retry_after is not None:
        wanted["retry_after_seconds"] = retry_after
    meet(operation, **wanted)


def meet(operation, **wanted):
    """Lets the next request of the operation meet a failure of any kind."""
    control("POST", "faults", {"operation": operation, "count": 1, **wanted})


def entra(sdk, client=OWNER):
    """A credential of Microsoft's Entra library for an app that signs in with a secret at the test issuer."""
    library = importlib.import_module("azure.identity.aio" if sdk.mode == "async" else "azure.identity")
    # The library asks login.microsoftonline.com whether it knows an authority, unless told that it need not.
    private_cloud = {"authority": endpoint_and_key()[0], "disable_instance_discovery": True}
    credential = library.ClientSecretCredential(TENANT, client, "emulator-client-secret", **private_cloud)

    def close():
        closing = credential.close()
        if inspect.isawaitable(closing):
            LOOP.run_until_complete(closing)

    return credential, close


def teams_token(minutes=30):
    """What a user of Teams who has signed in brings: the test issuer hands it out without a page to sign in."""
    form = {
        "grant_type": "urn:acs-broker:emulator:user",
        "client_id": TEAMS_APP,
        "scope": "https://auth.msft.communication.azure.com/Teams.ManageCalls",
        "expires_in": str(minutes * 60),
    }
    url = f"{os.environ['ACS_EMULATOR_HTTP'].rstrip('/')}/{TENANT}/oauth2/v2.0/token"
    with _DIRECT.open(url, data=urllib.parse.urlencode(form).encode(), timeout=20) as response:
        return json.load(response)["access_token"]


def rotate(key):
    """Makes a new access key; the connection string with it."""
    return control("POST", "keys/rotate", {"key": key})["connection_string_tls"]


class Sdk:
    """One package in one way of use, and what was called of it."""

    all = []

    def __init__(self, package, mode, classes):
        self.package, self.mode, self.classes = package, mode, classes
        self.seen = {}
        Sdk.all.append(self)

    def public_methods(self):
        return [
            f"{each.__name__}.{name}"
            for each in self.classes
            for name, _ in inspect.getmembers(each)
            if not name.startswith("_")
        ]

    def note(self, method, outcome):
        self.seen.setdefault(method, set()).add(outcome)

    def make(self, maker, *arguments, **options):
        """A client made by its class or by a class method of it, under watch."""
        owner = getattr(maker, "__self__", None)
        if owner is None:
            return Watched(self, maker(*arguments, **options))
        client = maker(*arguments, **options)
        self.note(f"{owner.__name__}.{maker.__name__}", "works")
        return Watched(self, client)

    def settle(self, method, call):
        """Makes a call to its end, whether or not it is asynchronous."""
        try:
            result = call()
            if inspect.isawaitable(result):
                result = LOOP.run_until_complete(result)
        except HttpResponseError as error:
            self.note(method, FAILED if error.status_code == 200 else error.status_code)
            raise
        if isinstance(result, (ItemPaged, AsyncItemPaged)):
            return Pages(self, method, result)
        if isinstance(result, (LROPoller, AsyncLROPoller)):
            return Poller(self, method, result)
        self.note(method, "works")
        return Watched(self, result) if isinstance(result, tuple(self.classes)) else result


class Watched:
    """A client whose calls are settled and noted."""

    def __init__(self, sdk, inner):
        self._sdk, self._inner = sdk, inner

    def __getattr__(self, name):
        value = getattr(self._inner, name)
        method = f"{type(self._inner).__name__}.{name}"
        if callable(value):
            return lambda *args, **options: self._sdk.settle(method, functools.partial(value, *args, **options))
        self._sdk.note(method, "works")
        return value

    def unwatched(self):
        return self._inner


class Pages:
    """What is listed, read to its end: all of it, or page by page."""

    def __init__(self, sdk, method, paged):
        self._sdk, self._method, self._paged = sdk, method, paged

    def _read(self, read, read_async):
        is_async = isinstance(self._paged, AsyncItemPaged)
        return self._sdk.settle(self._method, read_async if is_async else read)

    def __iter__(self):
        async def read_async():
            return [item async for item in self._paged]

        return iter(self._read(lambda: list(self._paged), read_async))

    def by_page(self):
        async def read_async():
            return [[item async for item in page] async for page in self._paged.by_page()]

        return self._read(lambda: [list(page) for page in self._paged.by_page()], read_async)


class Poller:
    """An operation under way."""

    def __init__(self, sdk, method, inner):
        self._sdk, self._method, self._inner = sdk, method, inner

    def result(self):
        return self._sdk.settle(self._method, self._inner.result)

    def __getattr__(self, name):
        return getattr(self._inner, name)


class Judge(unittest.TestCase):
    """What the cases of every SDK need."""

    def closing(self, client):
        """The same client, closed when the case is over, as far as it can be."""
        if hasattr(client.unwatched(), "close"):
            self.addCleanup(client.close)
        return client

    def refused(self, status, call):
        """The error of a call that must be refused with this status, or one of these."""
        with self.assertRaises(HttpResponseError) as raised:
            call()
        self.assertIn(raised.exception.status_code, status if isinstance(status, tuple) else (status,))
        return raised.exception

    def denied(self, call, message=DENIED):
        error = self.refused(401, call)
        self.assertEqual(error.error.code, "Denied")
        self.assertIn(message, error.error.message)

    def by_entra(self, **options):
        """A client that signs in with Entra ID instead of a key."""
        credential, close = entra(self.sdk, **options)
        self.addCleanup(close)
        return self.closing(self.sdk.make(self.sdk.classes[0], endpoint_and_key()[0], credential))

    def waits_out(self, operation, call, seconds=1):
        """The call meets a 429 that names a time, is made again by the SDK after that time, and then works."""
        before = calls(operation)
        fault(operation, 429, retry_after=seconds)
        start = time.monotonic()
        result = call()
        self.assertGreaterEqual(time.monotonic() - start, seconds)
        self.assertEqual(calls(operation) - before, 2)
        return result
