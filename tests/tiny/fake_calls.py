"""A pipeline over fakes that write given texts, with the fakes at hand."""

from pathlib import Path
from typing import Any

from edge_et.llm import Tokenizer
from edge_et.pipeline import ExtractThink
from edge_et.pipeline.models import Models
from tiny.bundle import build_bundle
from tiny.fakes import FakeClock, FakeTower, ForcedKVCache, new_chat_model
from tiny.thoughts import change_bundle

POSITION_S, TOKEN_S = 0.02, 1.0


class Parts:
    """A pipeline over fakes, with the fakes at hand."""

    def __init__(
        self,
        folder: Path,
        *,
        perceiver: tuple[str, ...] = (),
        reasoner: tuple[str, ...] = (),
        hint_model: tuple[str, ...] = (),
        endless: bool = False,
        batch: int = 512,
        **changes: dict[str, Any],
    ) -> None:
        """Write a manifest, for two models if the reasoner says something, and its fakes."""
        build_bundle(folder, two_models=bool(reasoner))
        manifest = change_bundle(folder, **changes)
        self.tokenizer = Tokenizer(folder / "tokenizer.json")
        self.clock = FakeClock()
        self.perceiver, self.reasoner, self.hint_model = (
            ForcedKVCache(
                self.tokenizer,
                *texts,
                context_length=2000,
                endless=endless,
                batch=batch,
                clock=self.clock,
                position_s=POSITION_S,
                token_s=TOKEN_S,
            )
            for texts in (perceiver, reasoner, hint_model)
        )
        self.pipeline = ExtractThink(
            manifest,
            tower=FakeTower(),
            contexts=[
                Models(
                    perceiver=new_chat_model(self.tokenizer, self.perceiver),
                    reasoner=new_chat_model(self.tokenizer, self.reasoner) if reasoner else None,
                    hint_model=new_chat_model(self.tokenizer, self.hint_model)
                    if hint_model
                    else None,
                )
            ],
            clock=self.clock,
        )

    def tokens(self, text: str) -> int:
        return len(self.tokenizer.encode(text))
