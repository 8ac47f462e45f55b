"""Who may ask: the Host and the Origin header, and the key.

In: a request's headers. Out: the request, or a refusal before its body is read. A page on the
internet that makes a browser send requests to this machine comes with the name of its own host:
in Host, where that name leads here (DNS rebinding), or else in Origin. So hosts are accepted that
the server was told, beside addresses and localhost, and of origins the server's own and those that
it was told. Programs that are no browser send no Origin.
"""

import hmac
import ipaddress
import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_et.serve.error_replies import error_reply
from edge_et.serve.errors import RequestError
from edge_et.serve.metrics import Metrics
from edge_et.serve.page_files import is_page
from edge_et.serve.settings import ServeSettings

_HOST = re.compile(r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[^:\[\]@/]+))(?::\d+)?")

_OPEN_PATHS = ("/health", "/v1/health")
"""For whoever watches the process; they tell nothing."""


class Guard:
    """Lets requests in, and counts them."""

    def __init__(self, app: ASGIApp, settings: ServeSettings, metrics: Metrics) -> None:
        """Stand before an application.

        Args:
            app: the application.
            settings: name the hosts, the origins and the key.
            metrics: count the requests.
        """
        self._app = app
        self._hosts = {*settings.allowed_hosts, settings.host.lower()}
        self._origins = settings.cors_origins
        self._key = None if settings.api_key is None else settings.api_key.encode()
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")
                self._metrics.count_request(getattr(route, "path", "other"), message["status"])
            await send(message)

        refusal = self._refusal(Headers(scope=scope), scope["path"], scope["method"])
        if refusal is None:
            await self._app(scope, receive, count)
            return
        await error_reply(refusal, scope["path"])(scope, receive, count)

    def _refusal(self, headers: Headers, path: str, method: str) -> RequestError | None:
        if not self._is_known(headers.get("host", "")):
            message = "the Host header names another host; start the server with --allow-host"
            return RequestError(421, "unknown_host", message)
        if not self._is_accepted(headers):
            message = "the Origin header names another page; start the server with --cors-origin"
            return RequestError(403, "unknown_origin", message)
        if self._key is None or path in _OPEN_PATHS or method == "OPTIONS":
            return None
        if is_page(path, headers):
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            given = headers.get("x-api-key", "")
        if hmac.compare_digest(given.strip().encode(), self._key):
            return None
        message = "the API key is missing or wrong: send it as Authorization: Bearer KEY"
        return RequestError(401, "invalid_api_key", message, {"WWW-Authenticate": "Bearer"})

    def _is_accepted(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None or origin in self._origins or "*" in self._origins:
            return True
        return origin.partition("://")[2].lower() == headers["host"].lower()

    def _is_known(self, host: str) -> bool:
        found = _HOST.fullmatch(host.lower())
        if found is None:
            return False
        name = (found["address"] or found["name"]).rstrip(".")
        return name == "localhost" or name in self._hosts or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
