"""Blocked words: from words to the tokens that would write them, for any tokenizer.

In: words, a tokenizer, and what was written so far. Out: whether a token would complete a blocked
word. When words are blocked is not known here.

Source: NoWait (arXiv 2506.08343) keeps reasoners from words such as "wait" that begin another round
of doubt; the paper's code lists ids of one tokenizer for that. Only whole tokens are compared: a
word that a model spells in other tokens than its tokenizer would is not noticed, and a token that
is a word as well as the beginning of others ("but", "button") is blocked with both meanings.
"""

from collections.abc import Iterable, Sequence

from edge_et.llm import Tokenizer


class BlockedWords:
    """Words that shall not be written.

    Each is meant with its first letter large and small, and with and without a space before it.
    """

    def __init__(self, words: Iterable[str], tokenizer: Tokenizer) -> None:
        """Find the tokens of the words.

        Args:
            words: none of them empty.
            tokenizer: of the model that shall not write them.
        """
        self._before: dict[int, set[tuple[int, ...]]] = {}
        """By a word's last token: those before it, none where the word is one token."""
        for word in words:
            for form in (word, word[0].upper() + word[1:], word[0].lower() + word[1:]):
                for text in (form, f" {form}"):
                    *before, last = tokenizer.encode(text)
                    self._before.setdefault(last, set()).add(tuple(before))

    def refuses(self, written: Sequence[int], token: int) -> bool:
        """Return whether a token would complete a blocked word.

        Args:
            written: the tokens before it.
            token: the token that may come next.
        """
        return any(
            len(before) <= len(written) and tuple(written[len(written) - len(before) :]) == before
            for before in self._before.get(token, ())
        )
