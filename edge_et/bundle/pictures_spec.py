"""How the extractions of several pictures become one text, format version 4."""

from typing import Annotated

from msgspec import Meta, Struct

from edge_et.bundle.placeholders import check_placeholders

Text = Annotated[str, Meta(min_length=1)]


class PicturesSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How extractions of several pictures become one text, which is plain like each of them."""

    item: Annotated[
        Text, Meta(description="Of one picture; {number}, counted from 1, and {extraction} once.")
    ] = "Picture {number}: {extraction}"
    separator: Annotated[str, Meta(description="Stands between two items.")] = "\n"
    unseen: Annotated[
        Text, Meta(description="Item of a picture that there was no time for; {number} required.")
    ] = "Picture {number}: not looked at, there was no time."

    def __post_init__(self) -> None:
        places = {"number", "extraction"}
        check_placeholders(self.item, required=places, allowed=places)
        if self.item.count("{extraction}") > 1:
            raise ValueError(f"placeholder {{extraction}} occurs more than once in {self.item!r}")
        check_placeholders(self.unseen, required={"number"}, allowed={"number"})
        check_placeholders(self.separator, required=set(), allowed=set())
