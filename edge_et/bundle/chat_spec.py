"""How a conversation is written: the turns as text."""

from typing import Annotated

from msgspec import Meta, Struct

from edge_et.bundle.placeholders import check_placeholders

Text = Annotated[str, Meta(min_length=1)]


class RoleNames(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What speakers are called in the opening of a turn."""

    system: Annotated[Text, Meta(description="Who gives instructions.")] = "system"
    user: Annotated[Text, Meta(description="Who asks.")] = "user"
    assistant: Annotated[Text, Meta(description="The model.")] = "assistant"


class ChatSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The turns of a conversation as text. Special tokens in these strings are special."""

    start: Annotated[str, Meta(description="Opens the conversation, before its first turn.")] = ""
    turn_start: Annotated[Text, Meta(description="Opens a turn; {role} is one of `roles`.")]
    roles: Annotated[RoleNames, Meta(description="The words for {role}.")] = RoleNames()
    before_text: Annotated[
        str,
        Meta(
            description="Stands behind the opening of a turn that begins with text, but for one "
            "that the model is to write."
        ),
    ] = ""
    turn_end: Annotated[Text, Meta(description="Closes a turn.")]
    system: Annotated[str | None, Meta(description="Text of a system turn; null: no such turn.")]
    assistant_start_suffix: Annotated[
        str, Meta(description="Follows the opening of each turn that the model is to write.")
    ] = ""
    stop_tokens: Annotated[
        tuple[Text, ...],
        Meta(min_length=1, description="Tokens that end what the model writes, as text."),
    ]

    def __post_init__(self) -> None:
        check_placeholders(self.turn_start, required={"role"}, allowed={"role"})
        others = (self.start, self.before_text, self.turn_end, self.assistant_start_suffix)
        for text in (*others, self.system or ""):
            check_placeholders(text, required=set(), allowed=set())
