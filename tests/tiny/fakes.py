"""Stand-ins for the native parts, through the seams that the runtime offers."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_et.decoder import DecoderShape, KvType
from edge_et.errors import DecodeError
from edge_et.llm import Evaluation
from edge_et.prompt import Segment, TokenSegment, count_positions
from edge_et.stages import Speaker
from edge_et.tokenizer import Tokenizer
from edge_et.vision import TileFeatures
from tiny.bundle import CHATML
from tiny.tokenizer import write_tokenizer


class FakeClock:
    """Stands still until somebody works."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class ScriptedContext:
    """Writes given texts: one for each prompt that is evaluated."""

    kv_type: KvType = "f16"
    shape = DecoderShape(
        layers=2, width=32, heads=4, kv_heads=2, key_width=8, value_width=8, feed_forward=64
    )

    def __init__(self, tokenizer: Tokenizer, *texts: str, context_length: int = 500) -> None:
        self.context_length = context_length
        self.prompts: list[str] = []
        self.appended: list[int] = []
        self.fail = False
        self._tokenizer = tokenizer
        self._texts = list(texts)
        self._script: list[int] = []

    @property
    def logits(self) -> NDArray[np.float32]:
        logits = np.zeros(self._tokenizer.size, np.float32)
        logits[self._script[0]] = 1
        return logits

    def evaluate(self, segments: Sequence[Segment]) -> Evaluation:
        if self.fail:
            self.fail = False
            raise DecodeError("told to fail")
        self.prompts.append(self._text(segments))
        text = self._texts.pop(0)
        self._script = []
        for piece in self._tokenizer.split_special(text):
            self._script += self._tokenizer.encode(piece) if isinstance(piece, str) else [piece]
        return Evaluation(reused=1, evaluated=count_positions(segments) - 1)

    def append(self, token: int) -> None:
        assert token == self._script.pop(0)
        self.appended.append(token)

    def clear(self) -> None:
        self._script = []

    def close(self) -> None:
        self.clear()

    def _text(self, segments: Sequence[Segment]) -> str:
        special = {self._tokenizer.special_id(text): text for text in CHATML.stop_tokens}
        special[self._tokenizer.special_id("<|im_start|>")] = "<|im_start|>"
        text = ""
        for segment in segments:
            if isinstance(segment, TokenSegment):
                for token in segment.ids:
                    text += special.get(token) or self._tokenizer.decode([token])
            else:
                text += "[image]"
        return text


class FakeTower:
    """Counts how often it runs; its image tokens tell the mean of the pixel values."""

    def __init__(self) -> None:
        self.runs = 0
        self.tiles = 0
        self.closed = False

    def encode(self, tiles: Iterable[NDArray[np.float32]]) -> TileFeatures:
        self.runs += 1
        features = [np.full((16, 32), tile.mean(), np.float32) for tile in tiles]
        self.tiles += len(features)
        return TileFeatures(np.stack(features), newline=np.full(32, 7, np.float32))

    def close(self) -> None:
        self.closed = True


def new_tokenizer(folder: Path) -> Tokenizer:
    write_tokenizer(folder / "tokenizer.json")
    return Tokenizer(folder / "tokenizer.json")


def new_speaker(tokenizer: Tokenizer, context: ScriptedContext) -> Speaker:
    stop_ids = {tokenizer.special_id(text) for text in CHATML.stop_tokens}
    return Speaker(
        tokenizer=tokenizer,
        context=context,
        chat=CHATML,
        stop_ids=frozenset(number for number in stop_ids if number is not None),
    )
