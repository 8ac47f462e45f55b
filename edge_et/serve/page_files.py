"""The page for browsers: its files, and the headers that they are served with.

In: a path, and what a browser accepts. Out: a file of the folder ``page``. They hold no secret, so
that they need no key; what the page does is not known here.
"""

from hashlib import sha256
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

_FOLDER = Path(__file__).with_name("page")

_ASSETS = {
    "/edge-et/page.css": "text/css",
    "/edge-et/page.js": "text/javascript",
}

_HEADERS = {
    # Whatever a model or a file's name says, no code but the page's own runs, and asks nobody else.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # With no-referrer some browsers send the Origin null, which is refused.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # but for a question whether it changed
    "Vary": "Accept",
}


def is_page(path: str, headers: Headers) -> bool:
    """Return whether a request is for a file of the page.

    Programs that speak Ollama's protocol ask for ``/``, too: a browser says that it takes HTML.

    Args:
        path: that is asked for.
        headers: of the request.
    """
    return path in _ASSETS or (path == "/" and _takes_html(headers))


def page_file_routes() -> list[Route]:
    """Return the routes of the files."""
    assets = [Route(path, _file(Path(path).name, kind)) for path, kind in _ASSETS.items()]
    return [_ForBrowsers("/", _file("index.html", "text/html")), *assets]


class _ForBrowsers(Route):
    """A route that is not there for programs."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if not _takes_html(Headers(scope=scope)):
            return Match.NONE, {}
        return super().matches(scope)


def _takes_html(headers: Headers) -> bool:
    kinds = headers.get("accept", "").lower().split(",")
    return any(kind.partition(";")[0].strip() == "text/html" for kind in kinds)


def _file(name: str, kind: str) -> Any:
    content = (_FOLDER / name).read_bytes()
    headers = {**_HEADERS, "ETag": f'"{sha256(content).hexdigest()[:32]}"'}

    async def reply(http: Request) -> Response:
        if http.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=kind)

    return reply
