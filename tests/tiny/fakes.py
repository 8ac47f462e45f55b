"""Stand-ins for the native parts, through the seams that the runtime offers."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_et.cancellation import CancelToken
from edge_et.errors import DecodeError
from edge_et.generation import ChatModel, PromptLookup
from edge_et.image import TileFeatures
from edge_et.llm import (
    ModelShape,
    Position,
    PrefillProgress,
    Segment,
    Tokenizer,
    TokenSegment,
    batches,
    common_prefix,
    generated,
    positions_of,
    restart_at,
)
from edge_et.llm.batch_rules import IN_GROUPS
from edge_et.options import KvType
from edge_et.results import Answer, Extraction, Progress, Thought
from tiny.bundle import CHATML
from tiny.tokenizer import SPECIAL, write_tokenizer


class FakeClock:
    """Stands still until somebody works."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class ForcedKVCache:
    """Writes given texts: one for each prompt that is evaluated, nothing behind its end.

    What it insists on, it wants to write again where another token was chosen instead. Its cache is
    real but for the numbers: what was evaluated, and in which batches.
    """

    kv_type: KvType = "f16"
    max_draft_tokens = 0
    shape = ModelShape(
        layers=2, width=32, heads=4, kv_heads=2, key_width=8, value_width=8, feed_forward=64
    )

    def __init__(
        self,
        tokenizer: Tokenizer,
        *texts: str,
        context_length: int = 500,
        endless: bool = False,
        batch: int = 512,
        clock: FakeClock | None = None,
        position_s: float = 0.0,
        token_s: float = 0.0,
        draft_s: float | None = None,
        certainty: float = 1.0,
    ) -> None:
        """Take the texts.

        Args:
            tokenizer: of whom it pretends to be.
            *texts: added tokens in them are written as such.
            context_length: positions.
            endless: begin a text anew when it is written, and the last one with further prompts.
            batch: most positions that are evaluated at once, a multiple of eight, at least sixteen.
            clock: is moved on by what is done.
            position_s: what reading a position takes, seconds.
            token_s: what writing a token takes, seconds.
            draft_s: what evaluating a draft token takes; None: drafts are not evaluated.
            certainty: logit of what it wants to write; that of all else is 0.
        """
        self.context_length = context_length
        self.prompts: list[str] = []
        self.batches: list[int] = []
        self.appended: list[int] = []
        self.cached: list[Position] = []
        self.copies: list[list[Position]] = []
        self.cancel = CancelToken()
        self.fail = False
        self._tokenizer = tokenizer
        self._texts = list(texts)
        self._endless = endless
        self._rules = replace(IN_GROUPS, most=batch, image_most=batch)
        self._clock = clock or FakeClock()
        self._position_s = position_s
        self._token_s = token_s
        self._draft_s = draft_s
        self._certainty = certainty
        self._scripts: dict[int, list[int]] = {}
        self._drafted: list[int] = []
        self.drafts: list[int] = []
        self._text: list[int] = []
        self._script: list[int] = []

    @property
    def logits(self) -> NDArray[np.float32]:
        if not self._script and self._endless:
            self._script = list(self._text)
        logits = np.zeros(self._tokenizer.size, np.float32)
        logits[self._script[0]] = self._certainty
        return logits

    def prefill_steps(self, segments: Sequence[Segment]) -> Iterator[PrefillProgress]:
        if self.fail:
            self.fail = False
            raise DecodeError("told to fail")
        self.prompts.append(self.text_of(segments))
        text = self._texts[0] if self._endless and len(self._texts) == 1 else self._texts.pop(0)
        self._text = []
        for piece in self._tokenizer.split_special(text):
            self._text += self._tokenizer.encode(piece) if isinstance(piece, str) else [piece]
        self._script = list(self._text)
        wanted = positions_of(segments)
        for copy in self.copies:
            if wanted[: len(copy)] == copy and common_prefix(self.cached, wanted) < len(copy):
                self.cached = list(copy)
        yield from self._read(segments, min(common_prefix(self.cached, wanted), len(wanted) - 1))

    def decode(self, token: int, draft: Sequence[int] = ()) -> int:
        self._scripts[len(self.cached)] = list(self._script)
        if self._script and self._script[0] == token:
            del self._script[0]
        self.appended.append(token)
        self.cached.append(generated(token))
        if self._drafted[:1] == [token]:
            del self._drafted[0]
            return 0
        self._drafted = [] if self._draft_s is None else list(draft)
        self.drafts.append(len(self._drafted))
        self._clock.now_s += self._token_s + len(self._drafted) * (self._draft_s or 0.0)
        return 1 + len(self._drafted)

    def rewind(self, positions: int) -> None:
        assert 0 <= positions <= len(self.cached)
        if positions < len(self.cached):
            self._script = list(self._scripts[positions])
        del self.cached[positions:]
        self._drafted = []

    def obey(self, cancel: CancelToken) -> None:
        self.cancel = cancel

    def keep_image(self, segments: Sequence[Segment], beside: Iterable[Sequence[Segment]]) -> None:
        prefix = positions_of(segments[:2])  # what stands before the image, and the image
        if self.cached[: len(prefix)] == prefix and prefix not in self.copies:
            self.copies.append(prefix)

    def missing(self, segments: Sequence[Segment]) -> int:
        wanted = positions_of(segments)
        held = [common_prefix(known, wanted) for known in (self.cached, *self.copies)]
        return len(wanted) - max(held)

    def clear(self) -> None:
        self._script = []
        self.cached = []
        self.copies = []

    def close(self) -> None:
        self.clear()

    def text_of(self, segments: Sequence[Segment]) -> str:
        special = {self._tokenizer.special_id(text): text for text in SPECIAL}
        text = ""
        for segment in segments:
            if isinstance(segment, TokenSegment):
                for token in segment.ids:
                    text += special.get(token) or self._tokenizer.decode([token])
            else:
                text += "[image]"
        return text

    def _read(self, segments: Sequence[Segment], shared: int) -> Iterator[PrefillProgress]:
        keep = restart_at(segments, shared)
        del self.cached[keep:]
        self._drafted = []
        wanted = positions_of(segments)
        for _, part in batches(segments, keep, self._rules):
            self.cancel.check()
            start = len(self.cached)
            yield PrefillProgress(reused=keep, evaluated=start - keep)
            self.cached += wanted[start : start + part.stop - part.start]
            self.batches.append(part.stop - part.start)
            self._clock.now_s += (part.stop - part.start) * self._position_s
        yield PrefillProgress(reused=keep, evaluated=len(wanted) - keep)


class FakeTower:
    """Counts how often it runs; its image tokens tell the mean of the pixel values."""

    def __init__(self) -> None:
        self.runs = 0
        self.tiles = 0
        self.rests = 0
        self.closed = False

    def encode(
        self, tiles: Iterable[NDArray[np.float32]], cancel: CancelToken | None = None
    ) -> TileFeatures:
        self.runs += 1
        features = [np.full((16, 32), tile.mean(), np.float32) for tile in tiles]
        self.tiles += len(features)
        return TileFeatures(tuple(features), newline=np.full(32, 7, np.float32))

    def rest(self) -> None:
        self.rests += 1

    def close(self) -> None:
        self.closed = True


def new_tokenizer(folder: Path) -> Tokenizer:
    write_tokenizer(folder / "tokenizer.json")
    return Tokenizer(folder / "tokenizer.json")


def new_chat_model(
    tokenizer: Tokenizer, context: ForcedKVCache, lookup: PromptLookup | None = None
) -> ChatModel:
    stop_ids = {tokenizer.special_id(text) for text in CHATML.stop_tokens}
    return ChatModel(
        tokenizer=tokenizer,
        kv_cache=context,
        chat=CHATML,
        stop_ids=frozenset(number for number in stop_ids if number is not None),
        prompt_lookup=lookup,
    )


def collect(stage: Generator[Any, None, Any]) -> tuple[list[Any], Any]:
    """Run a stage to its end and return its events, but for progress, and its result."""
    events = []
    while True:
        try:
            if not isinstance(event := next(stage), Progress):
                events.append(event)
        except StopIteration as stop:
            return events, stop.value


def without_progress(events: Iterable[Any]) -> list[Any]:
    """Return the events that hold text or an answer."""
    return [event for event in events if not isinstance(event, Progress)]


def cut_short(result: Answer | Extraction | Thought) -> dict[str, str]:
    """Return why those stages ended that their model did not end itself."""
    return {stage: why for stage, why in result.finish_reasons.items() if why != "stop"}


def text_of(events: list[Any], kind: type[Any]) -> str:
    """Return what the events of a kind say together."""
    return "".join(event.text for event in events if isinstance(event, kind))
