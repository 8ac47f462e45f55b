"""Which rows may be evaluated together so that what a position holds depends on its prompt alone.

In: what an engine's kernels round alike. Out: sizes of batches, for `kv_positions`. No engine is
known here.
"""

from dataclasses import dataclass, replace
from typing import Final, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRules:
    """How an engine's batches are cut.

    Attributes:
        group: rows of text that round the same wherever a batch of whole groups is cut; those that
            are left over at a segment's end go with the group before them.
        most: rows of text in one batch at most, a multiple of `group`, at least two of them.
        image_group: as `group`, for images that have so many rows; shorter ones are as text.
        image_most: rows of such an image in one batch at most.
        spare: free positions that an embedding row needs behind it where it is a batch of its own.
        written: tokens that the model wrote which may be in one batch and round as one at a time
            do.
        tail_apart: whether a segment's last group, with the rows that are left over, is a batch of
            its own, because their number decides how all rows of its batch are rounded.
    """

    group: int
    most: int
    image_group: int
    image_most: int
    spare: int
    written: int
    tail_apart: bool = False

    def within(self, rows: int | None) -> Self:
        """Return rules by which nothing rounds differently, in smaller batches.

        Args:
            rows: most rows of a batch, as far as two groups fit in; None: as many as now.
        """
        if rows is None:
            return self
        most = max(rows - rows % self.group, 2 * self.group)
        image_most = max(rows - rows % self.image_group, 2 * self.image_group)
        return replace(self, most=min(self.most, most), image_most=min(self.image_most, image_most))

    def draft_tokens(self, wanted: int | None) -> int:
        """Return how many draft tokens are evaluated in one batch with the token before them.

        Args:
            wanted: at most so many; None: as many as round in one batch as one at a time.
        """
        exact = self.written - 1
        if wanted is None:
            return exact
        return min(wanted, exact) if exact else wanted


# Eight is the largest group of rows that a repacked kernel of llama.cpp takes at once, counted from
# a batch's start. A batch's attention is a rectangle, of its rows and all positions up to its last
# one, so smaller batches compute less that the causal mask drops: on two cores of an AMD Zen 4, 281
# positions of SmolLM2-135M took 425 ms in batches of 512, 333 in those of 256, 334 of 128 and 375
# of 64, and 814 of Qwen3-0.6B 4.25, 3.72, 3.72 and 3.78 s.
IN_GROUPS: Final = BatchRules(group=8, most=256, image_group=8, image_most=256, spare=0, written=1)
"""Those of llama.cpp."""

# Kernels for matrices of int8 (i8mm) take two rows at once where a chunk of a batch has an even
# number of rows, and round single ones otherwise. llama.cpp makes ceil(n / 16) chunks of n rows.
# They are even for whole groups of eight up to 64 rows, and odd for 72, 88, 104 and 120. Run in an
# emulator: docs/arm.md.
IN_EVEN_CHUNKS: Final = replace(IN_GROUPS, most=64, image_most=64, tail_apart=True)
"""Those of llama.cpp where it computes with i8mm."""
