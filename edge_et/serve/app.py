"""The application: routes of all protocols behind the same doors.

In: a `Server`. Out: an ASGI application for uvicorn or any other server.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edge_et.serve.error_replies import error_reply
from edge_et.serve.errors import RequestError, to_request_error
from edge_et.serve.ollama_routes import ollama_routes
from edge_et.serve.openai_routes import openai_routes
from edge_et.serve.page_files import page_file_routes
from edge_et.serve.page_routes import page_routes
from edge_et.serve.safety import Guard
from edge_et.serve.server import Server
from edge_et.serve.settings import ServeSettings


def create_app(settings: ServeSettings) -> Starlette:
    """Return the application of a server; bundles are loaded when they are asked for.

    Args:
        settings: of the server.

    Raises:
        BundleError: a bundle cannot be used.
        OptionError: a setting is wrong.
    """
    server = Server(settings)

    async def health(http: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def metrics(http: Request) -> Response:
        return Response(generate_latest(server.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await server.close()

    middleware = [Middleware(Guard, settings=settings, metrics=server.metrics)]
    if settings.cors_origins:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
        )
        middleware.insert(0, cors)
    return Starlette(
        routes=[
            *page_file_routes(),
            *page_routes(server),
            *openai_routes(server),
            *ollama_routes(server),
            Route("/health", health),
            Route("/v1/health", health),
            Route("/metrics", metrics),
        ],
        middleware=middleware,
        exception_handlers={
            RequestError: _tell,
            HTTPException: _tell_http,
            Exception: _tell,
        },
        lifespan=lifespan,
    )


async def _tell(http: Request, err: Exception) -> Response:
    return error_reply(to_request_error(err), http.url.path)


async def _tell_http(http: Request, err: Exception) -> Response:
    assert isinstance(err, HTTPException)
    told = RequestError(err.status_code, "http_error", err.detail, err.headers)
    return await _tell(http, told)
