"""How a reasoner is asked what an extraction lacks, format version 4."""

from typing import Annotated

from msgspec import Meta, Struct

from edge_et.bundle.placeholders import check_placeholders

Text = Annotated[str, Meta(min_length=1)]


class LookAgainSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The reasoner says, after stage 1, which detail of the picture the question still lacks."""

    prompt: Annotated[
        Text,
        Meta(
            description="User turn to the reasoner; {question} required, {extraction} at will, "
            "for one that did not write it."
        ),
    ] = (
        "Question: {question}\nNotes about the picture: {extraction}\nIf the notes lack a detail "
        "of the picture that the question needs, name that detail in a few words. If nothing is "
        "missing, write: nothing"
    )
    nothing: Annotated[
        Text, Meta(description="Word that a reply begins with if nothing is missing; in any case.")
    ] = "nothing"
    max_detail_tokens: Annotated[
        Annotated[int, Meta(ge=1, le=2**24)], Meta(description="Budget of the reply, tokens.")
    ] = 16

    def __post_init__(self) -> None:
        check_placeholders(self.prompt, required={"question"}, allowed={"question", "extraction"})
