"""What was read in a picture, as further image tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Letters(nn.Module):
    """Characters that were read, as image tokens.

    Attributes:
        shapes: float32 [1 + characters, D], the token of each, the first one of nothing.
        columns: float32 [side, D], what is added for how far to the right a character is.
        rows: float32 [side, D], the same for how far down.
        start: float32 [D], what is added to the first one of a line.
    """

    def __init__(self, characters: int, side: int, llm_width: int) -> None:
        super().__init__()
        self.side = side
        self.shapes = nn.Parameter(torch.zeros(1 + characters, llm_width))
        self.columns = nn.Parameter(torch.zeros(side, llm_width))
        self.rows = nn.Parameter(torch.zeros(side, llm_width))
        self.start = nn.Parameter(torch.zeros(llm_width))

    def begin_as(self, tokens: Tensor) -> None:
        """Set the tokens [1 + characters, D] that training begins with."""
        with torch.no_grad():
            self.shapes.copy_(tokens)

    def forward(self, reading: Tensor, place_codes: Tensor) -> Tensor:
        """Give tokens [N, R, D].

        Args:
            reading: [N, R, 4]: number of the character, 0 for none; its x and y as shares of the
                picture; 1 where a line begins.
            place_codes: [side * side, D], of the places that tokens of what is seen stand for.
        """
        codes = reading[..., 0].long()
        cells = (reading[..., 1:3] * self.side).long().clamp(max=self.side - 1)
        columns, rows = cells[..., 0], cells[..., 1]
        added = place_codes[rows * self.side + columns] + self.columns[columns] + self.rows[rows]
        added = added + reading[..., 3:] * self.start
        tokens: Tensor = self.shapes[codes] + (codes > 0).unsqueeze(-1) * added
        return tokens
