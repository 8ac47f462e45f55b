"""How a picture is cut into tiles, and what stands between their image tokens."""

from collections.abc import Iterable
from typing import Annotated, Literal

from msgspec import Meta, Struct

from edge_et.bundle.placeholders import check_placeholders

GridSide = Annotated[int, Meta(ge=1, le=64)]


class Tiling(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A picture becomes one tile of all of it, and a grid of tiles beside that.

    Sources: "anyres" of LLaVA-NeXT, `image_processing_idefics3.py` and
    `image_processing_got_ocr2.py` of transformers.
    """

    grids: Annotated[
        tuple[tuple[GridSide, GridSide], ...],
        Meta(description="Columns and rows to choose from; of equals the first."),
    ] = ()
    shrink_over_tiles: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Tiles whose tokens the grid may have before they are interpolated."),
    ] = None
    max_tiles: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Most tiles of a picture, that of all of it included; null: any number."),
    ] = None
    rule: Annotated[
        Literal["area", "ratio", "edge"],
        Meta(
            description="Which grid: where most of the picture survives, with borders; whose shape "
            "is the nearest, squashed; or as many tiles as the picture, scaled to the longest edge "
            "of `edge_tiles`, covers."
        ),
    ] = "area"
    edge_tiles: Annotated[
        Annotated[int, Meta(ge=1, le=64)] | None,
        Meta(description='Tiles along the longest edge, for the rule "edge" alone.'),
    ] = None
    over_pixels: Annotated[
        Annotated[int, Meta(ge=0, le=2**40)] | None,
        Meta(
            description='Area up to which there is no grid, for the rule "ratio" and a picture '
            "whose sides are rounded to blocks of `whole_size`; null: none."
        ),
    ] = None
    whole: Annotated[
        Literal["first", "last"],
        Meta(description="Whether the tile of the whole picture stands before the grid or behind."),
    ] = "first"

    def __post_init__(self) -> None:
        if (self.rule == "edge") != (self.edge_tiles is not None):
            raise ValueError('`edge_tiles` belongs to the rule "edge", which needs it')
        if (self.rule == "edge") == bool(self.grids):
            raise ValueError('`grids` are needed, but for the rule "edge", which has none')
        if self.over_pixels is not None and self.rule != "ratio":
            raise ValueError('`over_pixels` belongs to the rule "ratio"')

    @property
    def possible_grids(self) -> tuple[tuple[int, int], ...]:
        """Columns and rows of all grids that a picture may get."""
        if self.edge_tiles is None:
            return self.grids
        sides = range(1, self.edge_tiles + 1)
        return tuple((columns, rows) for columns in sides for rows in sides)


Marks = tuple[Annotated[str, Meta(min_length=1)], ...]


class MarkupSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Tokens of the language model around the tiles' image tokens.

    The graph gives their embeddings, so that a picture stays one run of rows. Only the arrangement
    "flat" has them.

    Sources: `processing_idefics3.py`, `processing_internvl.py` and `processing_lfm2_vl.py` of
    transformers.
    """

    tokens: Annotated[
        Marks,
        Meta(min_length=1, description="Each token, as text, of the rows of `image_markup`."),
    ]
    start: Annotated[Marks, Meta(description="Before the first tile.")] = ()
    tile: Annotated[
        Marks, Meta(description="Before a tile of the grid; {row} and {column} count from 1.")
    ] = ()
    row_end: Annotated[Marks, Meta(description="Behind the last tile of a row of the grid.")] = ()
    grid_end: Annotated[Marks, Meta(description="The same of the last row.")] = ()
    whole: Annotated[Marks, Meta(description="Before the tile of the whole picture.")] = ()
    alone: Annotated[
        Marks | None,
        Meta(description="The same where there is no grid; null: as `whole`."),
    ] = None
    end: Annotated[Marks, Meta(description="Behind the last tile.")] = ()

    def __post_init__(self) -> None:
        if len(set(self.tokens)) != len(self.tokens):
            raise ValueError("`tokens` has one twice")
        others = (*self.row_end, *self.grid_end, *self.whole, *(self.alone or ()), *self.end)
        for mark in (*self.start, *others):
            check_placeholders(mark, required=set(), allowed=set())
            self.row_of(mark)
        for mark in self.tile:
            check_placeholders(mark, required=set(), allowed={"row", "column"})

    def check_grids(self, grids: Iterable[tuple[int, int]]) -> None:
        """Check that there is a row for every mark of some grids.

        Args:
            grids: columns and rows.

        Raises:
            ValueError: there is none for one of them.
        """
        places = {
            (row, column)
            for columns, rows in grids
            for row in range(1, rows + 1)
            for column in range(1, columns + 1)
        }
        for row, column in sorted(places):
            for mark in self.tile:
                self.row_of(mark, row=row, column=column)

    @property
    def without_grid(self) -> Marks:
        """What stands before the tile of a picture that has no grid."""
        return self.whole if self.alone is None else self.alone

    def count(self, columns: int, rows: int) -> int:
        """Return how many marks a picture has whose grid has so many tiles, 0 by 0 for none."""
        if not columns * rows:
            return len(self.start) + len(self.without_grid) + len(self.end)
        around = len(self.start) + len(self.whole) + len(self.end)
        ends = (rows - 1) * len(self.row_end) + len(self.grid_end)
        return columns * rows * len(self.tile) + ends + around

    def row_of(self, mark: str, *, row: int = 0, column: int = 0) -> int:
        """Return which row of `image_markup` stands for a mark.

        Args:
            mark: of one of the fields.
            row: of the tile, from 1.
            column: likewise.

        Raises:
            ValueError: none does.
        """
        token = mark.replace("{row}", str(row)).replace("{column}", str(column))
        try:
            return self.tokens.index(token)
        except ValueError:
            raise ValueError(f"`tokens` lacks {token!r}") from None
