"""How choices are told to a reasoner that answers with a letter, format version 4."""

from typing import Annotated

from msgspec import Meta, Struct

from edge_et.bundle.placeholders import check_placeholders

Text = Annotated[str, Meta(min_length=1)]


class ChoicesSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a question is asked whose answer is the letter of one of some choices."""

    prompt: Annotated[
        Text, Meta(description="User turn; {question} and {choices}, {extraction} at will.")
    ]
    thoughts_prompt: Annotated[
        Text | None, Meta(description="User turn of a call that thinks; null: as `prompt`.")
    ] = None
    item: Annotated[
        Text, Meta(description="One of {choices}: {letter} and {choice}, each once.")
    ] = "{letter}: {choice}"
    separator: Annotated[str, Meta(description="Stands between two items.")] = ", "

    def __post_init__(self) -> None:
        required = {"question", "choices"}
        for prompt in (self.prompt, self.thoughts_prompt):
            if prompt is not None:
                check_placeholders(prompt, required=required, allowed={*required, "extraction"})
        check_placeholders(self.item, required={"letter", "choice"}, allowed={"letter", "choice"})
        for place in ("{letter}", "{choice}"):
            if self.item.count(place) > 1:
                raise ValueError(f"placeholder {place} occurs more than once in {self.item!r}")
        check_placeholders(self.separator, required=set(), allowed=set())
