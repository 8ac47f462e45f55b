"""Errors of cameras."""

from edge_et.errors.base import EdgeETError


class CameraError(EdgeETError):
    """A source of frames cannot be opened, is lost, or gives what is no frame.

    `source` names it without user, password, path and query of a URL; `reason` says what is wrong.
    """

    def __init__(self, source: str, reason: str) -> None:
        self.source = source
        self.reason = reason
        super().__init__(f"{source}: {reason}")
