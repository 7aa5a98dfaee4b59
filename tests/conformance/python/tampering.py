"""Transports that change a request once the SDK has signed it, for the cases about signatures. Used by `test_identity`.

A transport, because it comes after every policy of the SDK, the signing one included.
"""

import base64
import datetime
import hashlib
import hmac
from urllib.parse import urlparse

from azure.core.pipeline.transport import AioHttpTransport, RequestsTransport

import judge


def change_body(request):
    assert "chat" in request.data, "there is something to change"
    request.data = request.data.replace("chat", "voip")


def sign_an_old_date(request):
    """Signs the request anew, properly, but with a date ten minutes past."""
    _, key = judge.endpoint_and_key()
    url = urlparse(request.url)
    old = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=10)
    date = old.strftime("%a, %d %b %Y %H:%M:%S GMT")
    content_hash = request.headers["x-ms-content-sha256"]
    text = f"{request.method}\n{url.path}?{url.query}\n{date};{url.netloc};{content_hash}"
    digest = hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()
    request.headers["x-ms-date"] = date
    request.headers["Authorization"] = (
        "HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature="
        + base64.b64encode(digest).decode()
    )


def transport(change, asynchronous):
    if not asynchronous:

        class Sync(RequestsTransport):
            def send(self, request, **options):
                change(request)
                return super().send(request, **options)

        return Sync()

    class Async(AioHttpTransport):
        async def send(self, request, **options):
            change(request)
            return await super().send(request, **options)

    return Async()
