"""What the models of a bundle computed when it was made, so that any machine can be compared.

In: numbers that whoever made the bundle has found. Out: the same, checked to fit together. How they
are computed is in docs/bundle.md; who computes them is not known here.
"""

import math
from typing import Annotated

from msgspec import Meta, Struct

_SUM_MARGIN = 1e-3  # of rounded probabilities

TokenId = Annotated[int, Meta(ge=0, le=2**24)]
Limit = Annotated[float, Meta(gt=0, le=100)]


class KnownTower(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Image tokens of a picture that a formula draws."""

    values: Annotated[
        tuple[float, ...],
        Meta(min_length=1, max_length=4096, description="Of the tile's image tokens, in places."),
    ]
    min_cosine: Annotated[
        float, Meta(gt=0, le=1, description="Least cosine of values that are right.")
    ]
    max_difference: Annotated[
        Limit, Meta(description="Most that one is off, as a share of the largest of `values`.")
    ]

    def __post_init__(self) -> None:
        if not any(self.values):
            raise ValueError("`values` are all 0, which tells nothing")


class KnownToken(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How probable some next tokens are behind a beginning of the prompt."""

    position: Annotated[int, Meta(ge=0, description="The last of the prompt's that is read.")]
    ids: Annotated[tuple[TokenId, ...], Meta(min_length=1, max_length=64)]
    logprobs: Annotated[
        tuple[Annotated[float, Meta(le=0, ge=-1000)], ...],
        Meta(description="Natural logarithms of their probabilities, one for each id."),
    ]

    def __post_init__(self) -> None:
        if len(self.logprobs) != len(self.ids):
            raise ValueError(f"{len(self.ids)} `ids` and {len(self.logprobs)} `logprobs`")
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("`ids` has one twice")
        if math.fsum(map(math.exp, self.logprobs)) > 1 + _SUM_MARGIN:
            raise ValueError("`logprobs` are of probabilities whose sum is more than 1")


class KnownModel(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a language model, with its adapter, finds probable behind a prompt."""

    prompt: Annotated[
        tuple[TokenId, ...],
        Meta(min_length=1, max_length=256, description="Token ids that the model reads."),
    ]
    tokens: Annotated[tuple[KnownToken, ...], Meta(min_length=1, max_length=64)]
    max_kl: Annotated[
        Limit, Meta(description="Mean KL divergence of a model that is right, nats at most.")
    ]

    def __post_init__(self) -> None:
        if (last := max(token.position for token in self.tokens)) >= len(self.prompt):
            raise ValueError(f"position {last} lies behind a `prompt` of {len(self.prompt)}")

    def check_vocabulary(self, size: int) -> None:
        """Refuse ids that a model does not have.

        Args:
            size: its vocabulary's.

        Raises:
            ValueError: there is one.
        """
        largest = max(*self.prompt, *(number for token in self.tokens for number in token.ids))
        if largest >= size:
            raise ValueError(f"id {largest} in a vocabulary of {size}")


class KnownAnswers(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What each part of a bundle computes where it is right; null: nobody computed it."""

    tower: KnownTower | None = None
    perceiver: KnownModel | None = None
    reasoner: KnownModel | None = None
