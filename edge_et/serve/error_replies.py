"""Errors as the clients of each protocol read them.

In: a `RequestError` and the path that was asked for. Out: an HTTP response.
"""

from starlette.responses import JSONResponse

from edge_et.serve.errors import RequestError
from edge_et.serve.openai_reply import error_body

_OLLAMA = "/api/"


def error_reply(err: RequestError, path: str) -> JSONResponse:
    """Return the response.

    Args:
        err: why there is no other one.
        path: of the request, which tells the protocol.
    """
    body = {"error": err.message} if path.startswith(_OLLAMA) else error_body(err)
    return JSONResponse(body, err.status, headers=err.headers)
