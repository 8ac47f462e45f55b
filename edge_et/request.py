"""One call: its question, and its options with the bundle's defaults filled in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, TypeVar

import msgspec

from edge_et.errors import OptionError
from edge_et.manifest import DirectSpec, Manifest, Sampling
from edge_et.options import AnswerOptions, parse_options
from edge_et.stages import Budget

V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a caller wants.

    Attributes:
        question: not empty, without white space around it.
        extraction_tokens: budget of stage 1.
        budget: budget of stage 2.
        extract_sampling: how stage 1 chooses tokens.
        think_sampling: how stage 2 and the one-stage baseline choose tokens.
        options: what the caller asked for.
    """

    question: str
    extraction_tokens: int
    budget: Budget
    extract_sampling: Sampling
    think_sampling: Sampling
    options: AnswerOptions

    @classmethod
    def of(cls, question: str, values: Mapping[str, object], manifest: Manifest) -> Self:
        """Check what a caller wrote and fill in the defaults.

        Args:
            question: one or more sentences.
            values: options by name.
            manifest: holds the defaults.

        Raises:
            OptionError: the question is empty or no text, or an option is wrong.
        """
        options = parse_options(values)
        think = manifest.think
        return cls(
            question=_checked(question),
            extraction_tokens=_either(
                options.max_extraction_tokens, manifest.extract.max_extraction_tokens
            ),
            budget=Budget(
                thinking=_either(options.max_thinking_tokens, think.max_thinking_tokens),
                answer=_either(options.max_answer_tokens, think.max_answer_tokens),
            ),
            extract_sampling=_sampling(manifest.extract.sampling, options),
            think_sampling=_sampling(think.sampling, options),
            options=options,
        )

    def direct_tokens(self, direct: DirectSpec) -> int:
        """Return the budget of the one-stage baseline."""
        return _either(self.options.max_answer_tokens, direct.max_answer_tokens)


def _checked(question: object) -> str:
    if not isinstance(question, str) or not question.strip():
        raise OptionError("question", question, "a text that is not empty")
    try:
        question.encode()
    except UnicodeEncodeError as err:
        raise OptionError("question", question, "text without lone surrogates") from err
    return question.strip()


def _sampling(default: Sampling, options: AnswerOptions) -> Sampling:
    return msgspec.structs.replace(
        default,
        temperature=_either(options.temperature, default.temperature),
        top_p=_either(options.top_p, default.top_p),
        seed=_either(options.seed, default.seed),
    )


def _either(value: V | None, default: V) -> V:
    return default if value is None else value
