"""Errors of calls, and of what is loaded."""

import reprlib
from collections.abc import Iterable, Mapping

from edge_et.cpu_flags import missing_for
from edge_et.errors.base import EdgeETError


class OptionError(EdgeETError):
    """An option or argument is unknown, of a wrong type or out of its range."""

    def __init__(self, name: str, value: object, expected: str) -> None:
        self.name = name
        self.value = value
        self.expected = expected
        try:
            shown = " ".join(reprlib.repr(value).splitlines())
        except Exception:  # of a repr that fails; Python's own does for numbers of 5000 digits
            shown = f"<{type(value).__name__}>"
        super().__init__(f"{name}={shown}: expected {expected}")


class AnswerValueError(EdgeETError):
    """An answer fits its schema, and the class that was given checks more and refuses it.

    `text` is the answer as JSON.
    """

    def __init__(self, text: str, reason: str) -> None:
        self.text = text
        self.reason = " ".join(reason.split())
        super().__init__(
            f"the answer {reprlib.repr(text)} fits the schema, and its class refuses it: "
            f"{self.reason}; ask again, or put into the schema what the class checks"
        )


class PromptTooLongError(EdgeETError):
    """A prompt, with the tokens still to be generated, does not fit into the context.

    Where a picture is part of it: its image tokens and tiles, and the options with which the same
    call would fit, ``({"max_tiles": 5}, {"pooling": 2})`` for instance. Image tokens that were
    given have no `tiles`; the options are then for encoding the picture again. `helps` tells what
    else would help, None where that was not looked for.
    """

    def __init__(
        self,
        tokens: int,
        limit: int,
        *,
        image_tokens: int | None = None,
        tiles: int | None = None,
        fitting: Iterable[Mapping[str, int]] = (),
        helps: Iterable[str] | None = None,
    ) -> None:
        self.tokens = tokens
        self.limit = limit
        self.image_tokens = image_tokens
        self.tiles = tiles
        self.fitting = tuple(map(dict, fitting))
        self.helps = None if helps is None else tuple(helps)
        message = f"the prompt and its budgets need {tokens} tokens, the context holds {limit}"
        if image_tokens is not None:
            message += f", and {image_tokens} are the picture's"
            if tiles is not None:
                message += f", of {tiles} tile{'' if tiles == 1 else 's'}"
        advice = []
        if self.fitting:
            fits = "encode the picture with " if tiles is None else "it fits with "
            ways = (" and ".join(f"{k}={v}" for k, v in way.items()) for way in self.fitting)
            advice.append(fits + " or ".join(ways))
        if self.helps is not None:
            advice += self.helps
        elif not self.fitting:
            advice.append("shorten the texts or lower the token budgets")
        told = ", or ".join(advice) or "no option helps, a longer context_length in the bundle does"
        super().__init__(f"{message}: {told}")


class MemoryBudgetError(EdgeETError):
    """A bundle needs more memory than was granted; nothing was loaded.

    Of `max_kv_bytes` the KV caches are told, and `parts` is empty. Of `max_memory_bytes` it is told
    what each part of the smallest way to open the bundle takes, in bytes.
    """

    def __init__(
        self,
        needed_bytes: int,
        limit_bytes: int,
        *,
        parts: Mapping[str, int] | None = None,
        helps: Iterable[str] = (),
    ) -> None:
        self.needed_bytes = needed_bytes
        self.limit_bytes = limit_bytes
        self.parts = dict(parts or {})
        if not self.parts:
            super().__init__(
                f"the KV caches need {needed_bytes} bytes, max_kv_bytes is {limit_bytes}: grant "
                "more, or take a bundle with a smaller context_length"
            )
            return
        told = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in self.parts.items())
        advice = ", or ".join(("grant more", *helps, "take a smaller bundle"))
        super().__init__(
            # Rounded so that what is told to be needed is more than what is granted, and enough.
            f"the process needs {-(-needed_bytes // 10**6)} MB at least ({told}; not all at once), "
            f"max_memory_bytes is {limit_bytes // 10**6} MB: {advice}"
        )


class VisionRunError(EdgeETError):
    """The vision tower failed on an image, or made output of an unexpected shape."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the vision tower failed: {reason}")


class DecodeError(EdgeETError):
    """The language model failed while evaluating; its cache was emptied and can be used again."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the language model failed: {reason}")


class EngineError(EdgeETError):
    """The engine that evaluates language models is not installed, or cannot be used here.

    Attributes:
        engine: its name in `load(engine=)`; None: no engine is installed.
    """

    def __init__(self, engine: str | None, reason: str) -> None:
        self.engine = engine
        self.reason = reason
        super().__init__(reason)

    @classmethod
    def not_installed(cls, engine: str | None, installed: Iterable[str]) -> "EngineError":
        """Return the error for an engine that is asked for and not there.

        Args:
            engine: which; None: any.
            installed: those that are there.
        """
        if engine is not None:
            found = ", ".join(installed) or "none"
            reason = f"the engine {engine!r} is not installed (installed: {found})"
            return cls(engine, f"{reason}: pip install 'edge-et[{engine}]'")
        reason = "no engine is installed that evaluates language models: pip install"
        if missing_for("prebuilt"):
            return cls(None, f"{reason} 'edge-et[llama]', which compiles llama.cpp")
        return cls(
            None, f"{reason} 'edge-et[prebuilt]', or 'edge-et[llama]', which compiles llama.cpp"
        )

    @classmethod
    def lacking(cls, engine: str, missing: Iterable[str]) -> "EngineError":
        """Return the error for an engine that would end the process on this CPU.

        Args:
            engine: which.
            missing: the instruction sets that it needs and the CPU does not have, at least one.
        """
        return cls(
            engine,
            f"the engine {engine!r} needs what this CPU does not have ({', '.join(missing)}): take "
            "the engine 'llama', which is compiled for it: pip install 'edge-et[llama]'",
        )


class ClosedError(EdgeETError):
    """The object was closed before."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"this {what} is closed: load it again")


class BusyError(EdgeETError):
    """An unfinished stream, which nobody continues, still holds the pipeline."""

    def __init__(self) -> None:
        super().__init__("a stream of this pipeline is unfinished: exhaust it or close() it first")


class QueueFullError(EdgeETError):
    """As many calls as the pipeline was told to bear wait for it already; nothing was done."""

    def __init__(self, waiting: int, limit: int) -> None:
        self.waiting = waiting
        self.limit = limit
        super().__init__(
            f"{waiting} calls wait for this pipeline already, max_waiting is {limit}: ask again "
            "later, or load the bundle with a larger max_waiting"
        )


class CancelledError(EdgeETError):
    """The call was cancelled by its `edge_et.CancelToken`, or its stream was closed."""

    def __init__(self) -> None:
        super().__init__("the call was cancelled: ask again, with another CancelToken")


class ForkedError(EdgeETError):
    """The object was opened by the process of which this one is a fork."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"this {what} was opened before the process was forked, and its threads are lost: call "
            f"edge_et.load() in the child, or edge_et.answer(), which does"
        )


class CacheFolderError(EdgeETError):
    """The user has no folder for caches; `edge_et.load` does without."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no folder for caches: {reason}; set XDG_CACHE_HOME to an absolute path")
