"""The base of all errors."""

from typing import Any


def _rebuild(kind: type["EdgeETError"], args: tuple[Any, ...], state: dict[str, Any]) -> Exception:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class EdgeETError(Exception):
    """Base of all errors that edge-et raises on purpose; its text is one line for a person."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call the constructor with the message alone, which no child accepts;
        # errors have to survive the way back from a worker process.
        return _rebuild, (type(self), self.args, self.__dict__)
