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
