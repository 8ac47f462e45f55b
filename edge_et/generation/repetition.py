"""Repetition: notices when a model writes the same tokens over and over.

In: the ids that a model writes, one by one. Out: whether it is caught in a loop. What happens then
is not known here.

The rule is exact and looks at nothing but ids: what was written last consists of one block, of 1 to
64 tokens, four times or more in a row without a single difference, and for 96 tokens or more. A
list whose items differ in a word is none, however long; nor is a row of ten equal items of up to
nine tokens ("red circle, red circle, ..."), which a picture may really show.
"""

LONGEST_BLOCK = 64
"""Tokens of the longest block that is noticed, about two sentences."""

LEAST_REPEATS = 4
"""How often a block has to stand in a row."""

LEAST_TOKENS = 96
"""Tokens that the repeated blocks have to fill; for short blocks this asks for more repeats."""


class RepetitionDetector:
    """Watches the end of what a model writes."""

    def __init__(self) -> None:
        """Begin with nothing written."""
        self._last: list[int] = []
        # How many tokens in a row were equal to the one that many places before, by distance.
        self._equal = [0] * (LONGEST_BLOCK + 1)

    def push(self, token: int) -> bool:
        """Take a token, and return whether what was written ends in a loop."""
        looping = False
        for distance in range(1, min(LONGEST_BLOCK, len(self._last)) + 1):
            run = self._equal[distance] + 1 if self._last[-distance] == token else 0
            self._equal[distance] = run
            looping |= run + distance >= max(LEAST_TOKENS, LEAST_REPEATS * distance)
        self._last = [*self._last[1 - LONGEST_BLOCK :], token]
        return looping
