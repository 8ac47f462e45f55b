"""The paths of the OpenAI protocol, and those of llama-server that its clients ask first.

In: HTTP requests. Out: replies in JSON, or a stream of server-sent events.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

from sse_starlette import EventSourceResponse
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edge_et.serve.bodies import read_json
from edge_et.serve.call import Call
from edge_et.serve.errors import RequestError
from edge_et.serve.models import ServedModel
from edge_et.serve.openai_reply import Reply, error_body
from edge_et.serve.openai_request import read_completion
from edge_et.serve.server import Server
from edge_et.serve.settings import GRACE_S, LAST_WORDS_S

IGNORED_HEADER = "x-edge-et-ignored"
"""Tells what a client asked for and did not get."""

HEADERS_AFTER_S = 1.0
"""A stream begins that long after its request at the latest, so that no client gives up waiting;
what is refused later is told in it."""

PING_S = 10
"""A stream in which nothing is told has a comment that often, seconds."""


def openai_routes(server: Server) -> list[Route]:
    """Return the routes of a server."""

    async def complete(http: Request) -> Response:
        body = await read_json(http, server.settings.max_body_bytes)
        wanted = await read_completion(body, server.settings)
        reply = Reply(server.models.find(wanted.chat.model).name, wanted)
        headers = {IGNORED_HEADER: ", ".join(wanted.ignored)} if wanted.ignored else {}
        if not wanted.streams:
            answer = await server.answer(wanted.chat, http)
            return JSONResponse(reply.whole(answer), headers=headers)
        call = server.events(wanted.chat, http)
        await call.has_begun(HEADERS_AFTER_S)
        return EventSourceResponse(
            _events(reply, call),
            headers=headers,
            ping=PING_S,
            sep="\n",
            # Or a stream would end with SIGTERM; what ends it later is the end of its call.
            shutdown_grace_period=GRACE_S + LAST_WORDS_S,
        )

    async def models(http: Request) -> Response:
        data = [_model_body(model) for model in server.models.all()]
        return JSONResponse({"object": "list", "data": data})

    async def model(http: Request) -> Response:
        return JSONResponse(_model_body(server.models.find(http.path_params["name"])))

    async def props(http: Request) -> Response:
        model = server.models.find(http.query_params.get("model", ""))
        return JSONResponse(
            {
                "default_generation_settings": {"n_ctx": model.context_length},
                "total_slots": server.settings.contexts,
                "model_alias": model.name,
                "modalities": {"vision": True, "audio": False},
                "chat_template": "",
                "chat_template_caps": {"supports_tools": False},
                "media_marker": "<__media__>",
            }
        )

    return [
        Route("/v1/chat/completions", complete, methods=["POST"]),
        Route("/chat/completions", complete, methods=["POST"]),
        Route("/v1/models", models),
        Route("/models", models),
        Route("/v1/models/{name:path}", model),
        Route("/props", props),
    ]


async def _events(reply: Reply, call: Call) -> AsyncIterator[dict[str, Any]]:
    try:
        async for chunk in reply.chunks(call):
            yield {"data": json.dumps(chunk)}
    except RequestError as err:
        yield {"data": json.dumps(error_body(err))}
    else:
        yield {"data": "[DONE]"}
    finally:
        call.end()


def _model_body(model: ServedModel) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": int(model.modified.timestamp()),
        "owned_by": "edge-et",
        "aliases": [model.name],
        "max_model_len": model.context_length,
        "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
        "meta": {"n_ctx": model.context_length, "size": model.size_bytes},
    }
