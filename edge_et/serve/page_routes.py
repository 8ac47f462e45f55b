"""The paths that the page for browsers asks: what the server is, and a question.

In: HTTP requests. Out: JSON, or a stream of server-sent events that tells both stages apart.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from sse_starlette import EventSourceResponse
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edge_et.results import Answer, Event, ExtractionToken, Progress, ReasoningToken
from edge_et.serve.bodies import read_json
from edge_et.serve.call import Call
from edge_et.serve.errors import RequestError
from edge_et.serve.openai_routes import HEADERS_AFTER_S, PING_S
from edge_et.serve.page_request import read_question
from edge_et.serve.server import Server
from edge_et.serve.settings import GRACE_S, LAST_WORDS_S


def page_routes(server: Server) -> list[Route]:
    """Return the routes of a server."""

    async def about(http: Request) -> Response:
        return JSONResponse(
            {
                "models": [model.name for model in server.models.all()],
                "max_body_bytes": server.settings.max_body_bytes,
                "max_images": server.settings.max_images,
            }
        )

    async def ask(http: Request) -> Response:
        body = await read_json(http, server.settings.max_body_bytes)
        call = server.events(read_question(body, server.settings), http)
        await call.has_begun(HEADERS_AFTER_S)
        return EventSourceResponse(
            _events(call),
            ping=PING_S,
            sep="\n",
            shutdown_grace_period=GRACE_S + LAST_WORDS_S,
        )

    return [
        Route("/edge-et/server", about),
        Route("/edge-et/ask", ask, methods=["POST"]),
    ]


async def _events(call: Call) -> AsyncIterator[dict[str, Any]]:
    try:
        async for event in call:
            yield {"data": json.dumps(event_body(event))}
    except RequestError as err:
        told = {"status": err.status, "code": err.code, "message": err.message}
        yield {"data": json.dumps({"type": "error", **told})}
    finally:
        call.end()


def event_body(event: Event) -> dict[str, Any]:
    """Return an event as JSON has it, under the name of its kind."""
    if isinstance(event, Answer):
        return {"type": "done", "answer": event.to_dict()}
    if isinstance(event, Progress):
        return {"type": "progress", **asdict(event)}
    if isinstance(event, ExtractionToken):
        return {"type": "extraction", **asdict(event)}
    kind = "reasoning" if isinstance(event, ReasoningToken) else "answer"
    return {"type": kind, "text": event.text}
