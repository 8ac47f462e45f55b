"""What a caller may say: options of one call, options of a loaded bundle, and their defaults.

In: keyword arguments. Out: checked values. None means the bundle's own default, or this machine's.
What the options do is not known here. docs/api.md and the command line are made from these structs.
"""

import functools
import math
import os
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec
from msgspec import Meta, Struct

from edge_et.errors import OptionError
from edge_et.plain_values import plain

DEFAULT_MAX_PIXELS = 50_000_000  # a decoded picture of that size takes 150 MB
DEFAULT_IMAGE_CACHE_BYTES = 64 * 2**20  # one picture of 16 tiles, 2048 wide: 7,300 image tokens
DEFAULT_IMAGE_KV_BYTES = 256 * 2**20  # three pictures of 729 image tokens in a 0.6B's KV cache
DEFAULT_MAX_IMAGES = 16
DEFAULT_MAX_IMAGES_BYTES = 256 * 2**20
DEFAULT_CACHE_BYTES = 2**30  # on disk: a dozen pictures of 729 image tokens in a 0.6B's KV cache

DEFAULT_MAX_WAITING = 100  # each has a thread, of the caller's or of ours

MAX_CONTEXTS = 64
MAX_WAITING = 100_000
MAX_THREADS = 512  # the most that ggml.h allows; each takes memory of its own
MAX_TOKENS = 2**24  # as in a bundle's manifest; far more than any context holds
MAX_INT = 2**63 - 1

EngineName = Literal["llama", "prebuilt"]
KvType = Literal["f16", "f32", "q8_0"]
"""Number type of a KV cache. F16 takes half the memory of F32 and decodes no slower; quantized
weights make more noise than either. Q8_0 takes half of F16, and flash attention with it: small
models may write nonsense over it, and what was cached may change a text."""

ConfidenceKind = Literal["written", "control"]
"""What an answer tells of how sure it is: what was seen while it was written; or how probable it is
without the extraction, too."""

AnswerKind = Literal["yes/no", "number"]
"""What a program can take an answer for: a bool, or an int or float."""

MAX_CHOICES = 256
"""Each takes a step of the model or more."""

MAX_LOOKS = 8
MAX_MESSAGES = 1000
MAX_STOP_TEXTS = 16
MAX_STOP_CHARACTERS = 256
MAX_TOP_LOGPROBS = 20

F = TypeVar("F", bound=Callable[..., Any])


class Message(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A turn of a conversation before the question."""

    role: Literal["system", "user", "assistant"]
    content: str


# Of a list or a dict that is too long, not more is looked at than it takes to refuse it.
_MOST_ITEMS = MAX_MESSAGES + 1
_MOST_KEYS = len(Message.__struct_fields__) + 1


class AnswerOptions(Struct, frozen=True, kw_only=True):
    """Options of one call; None is the bundle's default."""

    max_tiles: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_TOKENS)] | None,
        Meta(description="Most tiles of the picture, that of all of it included."),
    ] = None
    pooling: Annotated[
        Literal[1, 2] | None, Meta(description="2: blocks of 2x2 of a tile's tokens become one.")
    ] = None
    max_extraction_tokens: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_TOKENS)] | None,
        Meta(description="Budget of stage 1, tokens."),
    ] = None
    max_thinking_tokens: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_TOKENS)] | None,
        Meta(description="Budget of stage 2 before the answer, tokens."),
    ] = None
    max_answer_tokens: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_TOKENS)] | None,
        Meta(description="Budget of the answer, tokens."),
    ] = None
    temperature: Annotated[
        Annotated[float, Meta(ge=0, le=10)] | None,
        Meta(description="0: the most probable token, in both stages."),
    ] = None
    top_p: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None,
        Meta(description="Probability mass of the tokens chosen among."),
    ] = None
    seed: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_INT)] | None,
        Meta(description="Same seed, same text; for temperatures over 0."),
    ] = None
    hint: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="What stage 1 is to pay special attention to."),
    ] = None
    thinking: Annotated[
        bool | None, Meta(description="Whether a reasoner that marks its thoughts has any.")
    ] = None
    look_again: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_LOOKS)] | None,
        Meta(description="Most times that the reasoner may ask stage 1 for a detail it lacks."),
    ] = None
    deadline_s: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="Time for the whole answer, counted from the call, seconds."),
    ] = None
    choices: Annotated[
        Annotated[
            tuple[Annotated[str, Meta(min_length=1)], ...],
            Meta(min_length=2, max_length=MAX_CHOICES),
        ]
        | None,
        Meta(description="The answer is one of these texts, the most probable one."),
    ] = None
    kind: Annotated[
        AnswerKind | None,
        Meta(description="The answer is of this kind, and `Answer.value` a bool or a number."),
    ] = None
    schema: Annotated[
        Any,
        Meta(
            description="The answer is JSON that fits this JSON schema, or class in Python, and "
            "`Answer.value` the object."
        ),
    ] = None
    history: Annotated[
        Annotated[tuple[Message, ...], Meta(max_length=MAX_MESSAGES)] | None,
        Meta(
            description="What stage 2 reads before the question: instructions and earlier turns, "
            '`{"role": "system", "user" or "assistant", "content": text}` each.'
        ),
    ] = None
    stop: Annotated[
        Annotated[
            tuple[Annotated[str, Meta(min_length=1, max_length=MAX_STOP_CHARACTERS)], ...],
            Meta(max_length=MAX_STOP_TEXTS),
        ]
        | None,
        Meta(description="The answer, in free text, ends before the first of these texts."),
    ] = None
    top_logprobs: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None,
        Meta(
            description="Tell how probable each token of the answer was, and so many of the most "
            "probable ones; None: tell nothing."
        ),
    ] = None
    confidence: Annotated[
        ConfidenceKind | None,
        Meta(
            description="Tell how sure the answer is: written looks at what was written, control "
            "asks stage 2 without the extraction, too; None: tell nothing."
        ),
    ] = None


class LoadOptions(Struct, frozen=True, kw_only=True):
    """Options of a loaded bundle."""

    threads: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_THREADS)] | None,
        Meta(
            description="Threads of tower and language models, which take turns; None: the "
            "profile's, else the CPUs that this process may use; never more than those."
        ),
    ] = None
    max_pixels: Annotated[int, Meta(ge=1, le=MAX_INT, description="Most pixels of a picture.")] = (
        DEFAULT_MAX_PIXELS
    )
    image_cache_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=MAX_INT,
            description="Most bytes of image tokens that are remembered in memory.",
        ),
    ] = DEFAULT_IMAGE_CACHE_BYTES
    image_kv_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=MAX_INT,
            description="Most bytes of memory for what KV caches held of pictures of one question.",
        ),
    ] = DEFAULT_IMAGE_KV_BYTES
    max_images: Annotated[
        int, Meta(ge=1, le=MAX_INT, description="Most pictures of one question.")
    ] = DEFAULT_MAX_IMAGES
    max_images_bytes: Annotated[
        int,
        Meta(ge=1, le=MAX_INT, description="Most bytes of the pictures of one question together."),
    ] = DEFAULT_MAX_IMAGES_BYTES
    engine: Annotated[
        EngineName | None,
        Meta(
            description="What evaluates language models: llama is llama.cpp, prebuilt its fork "
            "ik_llama.cpp; None: one that is installed and right for the bundle."
        ),
    ] = None
    kv_type: Annotated[
        KvType | None,
        Meta(description="Number type of the KV caches; None: the profile's, or f16."),
    ] = None
    max_kv_bytes: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_INT)] | None,
        Meta(
            description="Most bytes of the KV caches, and of `image_kv_bytes`, together; None: any "
            "number."
        ),
    ] = None
    max_memory_bytes: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_INT)] | None,
        Meta(
            description="Most bytes of memory of the whole process; the bundle is opened so that "
            "it fits, or refused before it is; None: any number."
        ),
    ] = None
    contexts: Annotated[
        int,
        Meta(
            ge=1,
            le=MAX_CONTEXTS,
            description="Calls that may be under way at once, with KV caches of their own over one "
            "set of weights; one computes at a time, the most urgent.",
        ),
    ] = 1
    max_waiting: Annotated[
        int,
        Meta(ge=0, le=MAX_WAITING, description="Calls that may wait; more are refused at once."),
    ] = DEFAULT_MAX_WAITING
    use_profile: Annotated[
        bool,
        Meta(description="Whether to use what `edge-et autotune` found here for this bundle."),
    ] = True
    convert_weights: Annotated[
        bool,
        Meta(
            description="Whether language models may be opened from faster weights that were made "
            "of the bundle's, once a machine, in the user's caches."
        ),
    ] = True
    prompt_lookup: Annotated[
        bool | None,
        Meta(description="Whether to draft tokens from earlier text; None: if no answer changes."),
    ] = None
    cache_dir: Annotated[
        Annotated[str, Meta(min_length=1, pattern=r"^[^\0]*$")] | None,
        Meta(
            description="Folder in which image tokens and the KV caches of images are kept; None: "
            "nothing is."
        ),
    ] = None
    cache_bytes: Annotated[
        int, Meta(ge=0, le=MAX_INT, description="Most bytes in `cache_dir`.")
    ] = DEFAULT_CACHE_BYTES


def parse_options(values: Mapping[str, object]) -> AnswerOptions:
    """Check the options of a call.

    Args:
        values: options by name.

    Raises:
        OptionError: an option is unknown, of a wrong type or out of its range.
    """
    return _parse(AnswerOptions, values)


def parse_load_options(values: Mapping[str, object]) -> LoadOptions:
    """Check the options of a loaded bundle.

    Args:
        values: options by name; `cache_dir` may be any path-like object.

    Raises:
        OptionError: as for `parse_options`.
    """
    return _parse(LoadOptions, values)


def check_at_least(name: str, value: int, least: int) -> None:
    """Check a whole number.

    Args:
        name: what the caller knows it as.
        value: the number.
        least: the smallest that is accepted.

    Raises:
        OptionError: it is no whole number, or smaller.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise OptionError(name, value, f"a whole number of at least {least}")


def check_path(name: str, value: object) -> str:
    """Return a path as text.

    Args:
        name: what the caller knows it as.
        value: the path.

    Raises:
        OptionError: it is neither a string nor a path-like object that stands for one.
    """
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str):
        raise OptionError(name, value, "a str or an os.PathLike of str")
    return path


S = TypeVar("S", AnswerOptions, LoadOptions)


@functools.cache
def _hints_of(kind: type[Struct]) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _parse(kind: type[S], values: Mapping[str, object]) -> S:
    hints = _hints_of(kind)
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            raise OptionError(name, value, f"one of the options {', '.join(hints)}")
        try:
            checked[name] = msgspec.convert(
                plain(value, most_items=_MOST_ITEMS, most_keys=_MOST_KEYS), hints[name]
            )
            if isinstance(checked[name], float) and not math.isfinite(checked[name]):
                raise ValueError
        except (msgspec.ValidationError, ValueError, OverflowError) as err:
            raise OptionError(name, value, _expected(hints[name])) from err
    return kind(**checked)


_BOUNDS = ("ge", "gt", "le", "pattern", "min_length", "max_length")


def _expected(hint: Any) -> str:
    """Say in words which values a field takes besides None."""
    bounds: dict[str, Any] = {}
    while (origin := get_origin(hint)) is not Literal:
        arguments = get_args(hint)
        if origin is Annotated:
            hint, *metas = arguments
            for meta in filter(lambda meta: isinstance(meta, Meta), metas):
                bounds |= {name: getattr(meta, name) for name in _BOUNDS}
        elif origin in (Union, UnionType):
            (hint,) = (part for part in arguments if part is not NoneType)
        else:
            break
    if origin is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    if origin is tuple:
        least, most = bounds["min_length"], bounds["max_length"]
        if get_args(hint)[0] is Message:
            form = "{'role': 'system', 'user' or 'assistant', 'content': a text}"
            return f"a list of up to {most} of {form}"
        longest = get_args(get_args(hint)[0])[1].max_length
        form = f"of 1 to {longest} characters" if longest else "that are not empty"
        return f"a list of {least or 0} to {most} texts {form}"
    if hint is bool:
        return "True or False"
    if hint is str:
        return "a text that is not empty" + (" and holds no NUL" if bounds.get("pattern") else "")
    least, over, most = (bounds.get(name) for name in ("ge", "gt", "le"))
    number = "a whole number" if hint is int else "a number" if most else "a finite number"
    if over is not None:
        return f"{number} over {over}" + ("" if most is None else f" and up to {most}")
    return f"{number} of at least {least}" if most is None else f"{number} from {least} to {most}"
