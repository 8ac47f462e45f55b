"""What a request is refused for, whatever protocol tells it.

In: an error of the runtime, or a fault of a body. Out: a `RequestError` with an HTTP status, whose
message names no path of this machine.
"""

from collections.abc import Mapping

from edge_et.errors import (
    BundleError,
    CancelledError,
    EdgeETError,
    ImageError,
    MemoryBudgetError,
    MissingExtraError,
    OptionError,
    PromptTooLongError,
    QueueFullError,
)


class RequestError(EdgeETError):
    """A request that is not answered.

    Attributes:
        status: of HTTP.
        code: for programs, e.g. ``context_length_exceeded``.
        message: for people; names no path.
        headers: further ones of the reply.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Say why.

        Args:
            status: of HTTP.
            code: for programs.
            message: for people.
            headers: further ones of the reply.
        """
        self.status, self.code, self.message = status, code, message
        self.headers = dict(headers or {})
        super().__init__(message)


def to_request_error(err: Exception) -> RequestError:
    """Say in terms of a request why a call failed; paths and names of folders stay here.

    Args:
        err: what the runtime raised, or a fault of our own.
    """
    if isinstance(err, RequestError):
        return err
    if isinstance(err, PromptTooLongError):
        message = f"the request needs {err.tokens} tokens, the model's context holds {err.limit}"
        return RequestError(400, "context_length_exceeded", message)
    if isinstance(err, ImageError):
        return RequestError(400, "invalid_image", str(err))
    if isinstance(err, OptionError):
        return RequestError(400, "invalid_request", f"{err.name}: expected {err.expected}")
    if isinstance(err, MissingExtraError):
        return RequestError(501, "not_supported", str(err))
    if isinstance(err, MemoryError | MemoryBudgetError):
        return RequestError(503, "overloaded", "there is not enough memory for the model")
    if isinstance(err, QueueFullError | CancelledError):
        return RequestError(503, "overloaded", "the server is busy or stops: ask again later")
    if isinstance(err, BundleError):
        return RequestError(500, "model_unusable", "the model cannot be loaded; see the log")
    return RequestError(500, "server_error", "the model failed; see the log")
