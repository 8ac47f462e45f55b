"""How a model is asked: the pieces of text around a picture, a question and an answer.

A recipe makes one `PromptFormat`. Training and the bundle take their prompts from it, so that a
model is asked the way it was trained.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFormat:
    """The chat format and the prompts of one model.

    Attributes:
        turn_start: what begins a turn, with a place for `{role}`.
        turn_end: what ends one.
        extract_prompt: of stage 1, with places for `{image}` and `{question}`.
        think_prompt: of stage 2, with a place for `{question}`.
        caption_prompt: asks for a description without a question, with a place for `{image}`.
        direct_prompt: asks for the answer at once, with places for `{image}` and `{question}`.
        answer_marker: what stands between reasoning and answer.
        image_tokens: how many tokens stand for a picture.
    """

    turn_start: str
    turn_end: str
    extract_prompt: str
    think_prompt: str
    caption_prompt: str
    direct_prompt: str
    answer_marker: str
    image_tokens: int

    def start(self, role: str) -> str:
        """Return what begins a turn of the "user" or the "assistant"."""
        return self.turn_start.format(role=role)
