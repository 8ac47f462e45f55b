"""What was said before the question: instructions, and earlier turns of a conversation.

In: messages of a caller, who is not trusted. Out: what the prompt of stage 2 begins with. Stage 1
does not see it: perceivers are tuned on a prompt of their own.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

from edge_et.bundle import ChatSpec
from edge_et.llm import (
    Part,
    Plain,
    assistant_turn,
    begin_user_turn,
    end_turn,
    system_turn,
)
from edge_et.options import Message

_SPEAKERS = {"user": "User: ", "assistant": "Assistant: "}
"""What tells turns apart where they are told in a single one."""


@dataclass(frozen=True, slots=True)
class History:
    """Earlier turns, without those that are empty.

    Attributes:
        system: all instructions; empty: those of the chat format hold.
        turns: who said what; no two in a row by the same.
    """

    system: str = ""
    turns: tuple[tuple[Literal["user", "assistant"], str], ...] = ()

    @classmethod
    def of(cls, messages: Iterable[Message]) -> Self:
        """Put what one role says in a row together, and all instructions.

        Args:
            messages: in their order.
        """
        system: list[str] = []
        turns: list[tuple[Literal["user", "assistant"], str]] = []
        for message in messages:
            role, text = message.role, message.content.strip()
            if not text:
                continue
            if role == "system":
                system.append(text)
            elif turns and turns[-1][0] == role:
                turns[-1] = (role, f"{turns[-1][1]}\n\n{text}")
            else:
                turns.append((role, text))
        return cls("\n\n".join(system), tuple(turns))

    def opening(self, chat: ChatSpec) -> list[Part]:
        """Return what a conversation begins with, up to the question in its turn of the user.

        Args:
            chat: the chat format.
        """
        turns, begun = self.turns, ""
        if turns and turns[-1][0] == "user":
            turns, begun = turns[:-1], f"{turns[-1][1]}\n\n"
        parts = system_turn(chat, self.system)
        for role, text in turns:
            if role == "user":
                parts += [*begin_user_turn(chat), Plain(text), *end_turn(chat)]
            else:
                parts += assistant_turn(chat, text)
        return [*parts, *begin_user_turn(chat), *_text(begun)]

    def told(self) -> list[Part]:
        """Return what a turn of the user begins with that tells all of it."""
        texts = [self.system] if self.system else []
        texts += [_SPEAKERS[role] + text for role, text in self.turns]
        return _text("".join(f"{text}\n\n" for text in texts))


def _text(text: str) -> list[Part]:
    return [Plain(text)] if text else []
