"""The paths of the Ollama protocol.

In: HTTP requests. Out: replies in JSON, or a stream of lines of JSON. The models are those that the
server was started with; no client adds, changes or removes one.
"""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from edge_et.serve.bodies import flag_of, read_json
from edge_et.serve.call import Call
from edge_et.serve.errors import RequestError
from edge_et.serve.models import ServedModel
from edge_et.serve.ollama_reply import OllamaReply, timestamp
from edge_et.serve.ollama_request import OllamaRequest, model_name_of, read_chat, read_generate
from edge_et.serve.openai_routes import HEADERS_AFTER_S, IGNORED_HEADER
from edge_et.serve.server import Server
from edge_et.serve.settings import ServeSettings

VERSION = "0.12.0"
"""The version of Ollama whose requests are understood; clients compare it with what they need."""

_RUNNING = "Ollama is running"
"""What stands at ``/``: clients compare it letter by letter."""

_LINES = "application/x-ndjson"

_FOR_EVER = timedelta(days=100 * 365)

_Reader = Callable[[Mapping[str, Any], ServeSettings], OllamaRequest]


def ollama_routes(server: Server) -> list[Route]:
    """Return the routes of a server."""

    async def root(http: Request) -> Response:
        return PlainTextResponse(_RUNNING)

    async def version(http: Request) -> Response:
        return JSONResponse({"version": VERSION})

    async def tags(http: Request) -> Response:
        return JSONResponse({"models": [_model_body(model) for model in server.models.all()]})

    async def running(http: Request) -> Response:
        loaded = [model for model in server.models.all() if model.is_loaded]
        return JSONResponse({"models": [_running_body(model) for model in loaded]})

    async def show(http: Request) -> Response:
        body = await read_json(http, server.settings.max_body_bytes)
        model = server.models.find(model_name_of(body))
        return JSONResponse(_shown_body(model))

    async def pull(http: Request) -> Response:
        body = await read_json(http, server.settings.max_body_bytes)
        streams = flag_of(body, "stream") is not False
        try:
            server.models.find(model_name_of(body))
        except RequestError as err:
            message = f"{err.message}, and downloads none"
            raise RequestError(err.status, err.code, message) from err
        reply = {"status": "success"}
        return Response(_line(reply), media_type=_LINES) if streams else JSONResponse(reply)

    async def chat(http: Request) -> Response:
        return await _answer(server, http, read_chat)

    async def generate(http: Request) -> Response:
        return await _answer(server, http, read_generate)

    async def keeps_models(http: Request) -> Response:
        message = "the models are chosen where the server is started: no client changes them"
        raise RequestError(403, "not_supported", message)

    async def embeds_nothing(http: Request) -> Response:
        raise RequestError(400, "not_supported", "the models make no embeddings")

    changing = ("/api/create", "/api/copy", "/api/push", "/api/blobs/{digest:path}")
    return [
        Route("/", root),
        Route("/api/version", version),
        Route("/api/tags", tags),
        Route("/api/ps", running),
        Route("/api/show", show, methods=["POST"]),
        Route("/api/pull", pull, methods=["POST"]),
        Route("/api/chat", chat, methods=["POST"]),
        Route("/api/generate", generate, methods=["POST"]),
        Route("/api/delete", keeps_models, methods=["DELETE"]),
        *(Route(path, keeps_models, methods=["POST", "HEAD"]) for path in changing),
        Route("/api/embed", embeds_nothing, methods=["POST"]),
        Route("/api/embeddings", embeds_nothing, methods=["POST"]),
    ]


async def _answer(server: Server, http: Request, read: _Reader) -> Response:
    body = await read_json(http, server.settings.max_body_bytes)
    wanted = read(body, server.settings)
    model = server.models.find(wanted.model)
    reply = OllamaReply(
        model=wanted.model or _tagged(model),
        is_chat=read is read_chat,
        shows_reasoning=wanted.chat is None or wanted.chat.shows_reasoning,
    )
    headers = {IGNORED_HEADER: ", ".join(wanted.ignored)} if wanted.ignored else {}
    if wanted.chat is None:
        return JSONResponse(await _load(server, model, wanted, reply), headers=headers)
    if not wanted.streams:
        answer = await server.answer(wanted.chat, http)
        return JSONResponse(reply.whole(answer), headers=headers)
    call = server.events(wanted.chat, http)
    await call.has_begun(HEADERS_AFTER_S)
    return StreamingResponse(_lines(reply, call), media_type=_LINES, headers=headers)


async def _load(
    server: Server, model: ServedModel, wanted: OllamaRequest, reply: OllamaReply
) -> dict[str, Any]:
    """Load a model, or with a keep-alive of 0 unload it."""
    if wanted.keep_alive_s == 0:
        await server.models.unload(model)
        return reply.without_text("unload")
    async with server.models.lease(model, wanted.keep_alive_s):
        return reply.without_text("load")


async def _lines(reply: OllamaReply, call: Call) -> AsyncIterator[str]:
    try:
        async for part in reply.parts(call):
            yield _line(part)
    except RequestError as err:
        yield _line({"error": err.message})
    finally:
        call.end()


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value) + "\n"


def _tagged(model: ServedModel) -> str:
    """Return a name with the tag that every name has in Ollama."""
    return f"{model.name}:latest"


def _model_body(model: ServedModel) -> dict[str, Any]:
    name = _tagged(model)
    return {
        "name": name,
        "model": name,
        "modified_at": timestamp(model.modified),
        "size": model.size_bytes,
        "digest": model.digest,
        "details": _details(model),
    }


def _running_body(model: ServedModel) -> dict[str, Any]:
    stays = _FOR_EVER if model.keep_alive_s < 0 else timedelta(seconds=model.keep_alive_s)
    idle = timedelta() if model.users else timedelta(seconds=monotonic() - model.used_at)
    body = _model_body(model)
    del body["modified_at"]
    return body | {
        "expires_at": timestamp(datetime.now(UTC) + stays - idle),
        "size_vram": 0,
        "context_length": model.context_length,
    }


def _shown_body(model: ServedModel) -> dict[str, Any]:
    architecture = model.manifest.perceiver.architecture
    return {
        "modelfile": "",
        "parameters": "",
        "template": "{{ .Prompt }}",
        "details": _details(model),
        "model_info": {
            "general.architecture": architecture,
            f"{architecture}.context_length": model.context_length,
            f"{architecture}.embedding_length": model.manifest.perceiver.embedding_width,
        },
        "capabilities": [
            "completion",
            "vision",
            *(["thinking"] if model.marks_thoughts else []),
        ],
        "modified_at": timestamp(model.modified),
    }


def _details(model: ServedModel) -> dict[str, Any]:
    family = model.manifest.perceiver.architecture
    return {
        "parent_model": "",
        "format": "gguf",
        "family": family,
        "families": [family],
        "parameter_size": "",
        "quantization_level": "",
    }
