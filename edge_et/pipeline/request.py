"""One call: its question, and its options with the bundle's defaults filled in."""

from dataclasses import dataclass, replace
from typing import Literal, Self, TypeVar

import msgspec

from edge_et.bundle import DirectSpec, ExtractSpec, Manifest, Sampling, ThinkSpec, ThoughtSpec
from edge_et.errors import OptionError
from edge_et.generation import Watch
from edge_et.options import AnswerOptions
from edge_et.pipeline.answer_schema import read_schema
from edge_et.pipeline.models import Models
from edge_et.stages import (
    AnswerForm,
    Budget,
    ChoiceForm,
    FreeText,
    History,
    JsonForm,
    NumberForm,
    Thinking,
    tell_choices,
)

V = TypeVar("V")

MAX_CHARACTERS = 2**20
"""Of a text from a caller: more than contexts hold. Ten times as many took minutes to tokenize."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a caller wants.

    Attributes:
        question: not empty, without white space around it.
        hint: what the caller wants stage 1 to pay attention to, likewise; None: nothing special.
        extraction_tokens: budget of stage 1.
        extract_sampling: how stage 1 chooses tokens.
        thinking: how stage 2 goes.
        plain_sampling: how tokens are chosen in the one-stage baseline, and in a stage 2 that has
            no time for a marked thought.
        options: what the caller asked for.
        form: how the answer is written by a model that is told no choices with letters, while
            `thinking` has that of stage 2; None: as free text.
        pictures: how many there are, at least 1.
        shown: what the bundle does with several.
        looks: how often it is looked again at most.
    """

    question: str
    hint: str | None
    extraction_tokens: int
    extract_sampling: Sampling
    thinking: Thinking
    plain_sampling: Sampling
    options: AnswerOptions
    form: AnswerForm | None = None
    pictures: int = 1
    shown: Literal["apart", "together"] = "apart"
    looks: int = 0

    @property
    def most_extracted(self) -> int:
        """Most tokens of the extraction of one picture, with what stands between two looks."""
        return (1 + self.looks) * self.extraction_tokens + self.looks

    @property
    def are_apart(self) -> bool:
        """Whether there are several pictures, each in a prompt of its own."""
        return self.pictures > 1 and self.shown == "apart"

    @classmethod
    def of(
        cls, question: str, options: AnswerOptions, manifest: Manifest, pictures: int = 1
    ) -> Self:
        """Check what a caller wrote and fill in the defaults.

        Args:
            question: one or more sentences.
            options: checked each for itself.
            manifest: holds the defaults.
            pictures: how many there are, at least 1.

        Raises:
            OptionError: the question is empty or no text, or the bundle cannot do what an option
                asks for, or options contradict each other.
        """
        hint = None if options.hint is None else _checked("hint", options.hint)
        if hint is not None and not manifest.extract.hint_places:
            raise OptionError("hint", hint, "a bundle with {hint} in its first prompt")
        if options.look_again:
            _check_looks(options.look_again, manifest.extract, pictures)
        form = _form(options)
        return cls(
            question=_checked("question", question),
            hint=hint,
            extraction_tokens=_either(
                options.max_extraction_tokens, manifest.extract.max_extraction_tokens
            ),
            extract_sampling=_sampling(manifest.extract.sampling, options),
            thinking=_thinking(manifest.think, options, form),
            plain_sampling=_sampling(manifest.think.sampling, options),
            options=options,
            form=form,
            pictures=pictures,
            shown=manifest.extract.pictures,
            looks=options.look_again or 0,
        )

    def new_watch(self) -> Watch | None:
        """Return what sees how probable a stage's tokens are; None: nobody wants to know."""
        return None if self.options.confidence is None else Watch()

    def without_picture(self) -> Self:
        """Return the request as one about no picture, which the reasoner alone answers."""
        return replace(self, thinking=replace(self.thinking.as_chat(), form=self.form))

    def check_form(self, models: Models, direct: DirectSpec | None = None) -> None:
        """Refuse a form of the answer that cannot be written, or not within the budget.

        The baseline has no place for a history, and refuses one.

        Args:
            models: who would write it.
            direct: that of the one-stage baseline; None: stage 2 is asked.

        Raises:
            OptionError: there is a history, or as for `edge_et.stages.AnswerForm.check`.
        """
        if direct is not None and self.options.history:
            raise OptionError("history", self.options.history, "none in the one-stage baseline")
        thinking = self.thinking
        if direct is not None and self.form is not None:
            self.form.check(models.perceiver.tokenizer, "", self.direct_tokens(direct))
        elif direct is None and thinking.form is not None:
            tokenizer = models.thinking_model.tokenizer
            thinking.form.check(tokenizer, thinking.spec.answer_marker, thinking.budget.answer)

    def direct_tokens(self, direct: DirectSpec) -> int:
        """Return the budget of the one-stage baseline."""
        return _either(self.options.max_answer_tokens, direct.max_answer_tokens)


def _check_looks(looks: int, spec: ExtractSpec, pictures: int) -> None:
    if not (spec.hint_places or "{question}" in spec.prompt + (spec.system or "")):
        expected = "a bundle with {hint} or {question} in its first prompt"
        raise OptionError("look_again", looks, expected)
    if pictures > 1 and spec.pictures == "apart":
        expected = "0 for several pictures, unless the bundle shows them together"
        raise OptionError("look_again", looks, expected)


def check_asked(question: str, options: AnswerOptions) -> None:
    """Refuse what no bundle can be asked, before one is loaded.

    Args:
        question: one or more sentences.
        options: checked each for itself.

    Raises:
        OptionError: the question is empty or no text, or options contradict each other.
        MissingExtraError: as for `edge_et.pipeline.answer_schema.read_schema`.
    """
    _checked("question", question)
    if options.hint is not None:
        _checked("hint", options.hint)
    _form(options)
    _free_text(options)
    _history(options)


def check_text(name: str, text: object) -> str:
    """Return a caller's text without white space around it.

    Args:
        name: what the caller knows it as.
        text: what was given.

    Raises:
        OptionError: it is no text, too long for any context, or none that can be encoded.
    """
    if not isinstance(text, str):
        raise OptionError(name, text, "a text")
    if len(text) > MAX_CHARACTERS:
        raise OptionError(name, text, f"a text of at most {MAX_CHARACTERS} characters")
    try:
        text.encode()
    except UnicodeEncodeError as err:
        raise OptionError(name, text, "text without lone surrogates") from err
    return text.strip()


def _checked(name: str, text: object) -> str:
    checked = check_text(name, text)
    if not checked:
        raise OptionError(name, text, "a text that is not empty")
    return checked


def _thinking(spec: ThinkSpec, options: AnswerOptions, form: AnswerForm | None) -> Thinking:
    told = ""
    if spec.choices is not None and options.choices is not None and isinstance(form, ChoiceForm):
        told = tell_choices(spec.choices, options.choices)
        form = replace(form, by_letter=True)
    thoughts = spec.thoughts
    if thoughts is None and options.thinking:
        raise OptionError("thinking", True, "a bundle whose reasoner marks its thoughts")
    chosen: ThinkSpec | ThoughtSpec = spec
    if thoughts is not None and _either(options.thinking, thoughts.default):
        chosen = thoughts
    budget = Budget(
        thinking=_either(options.max_thinking_tokens, chosen.max_thinking_tokens),
        answer=_either(options.max_answer_tokens, spec.max_answer_tokens),
    )
    return Thinking(
        spec=spec,
        # A thought of no tokens is none.
        marked=chosen is thoughts and budget.thinking > 0,
        budget=budget,
        sampling=_sampling((chosen if budget.thinking else spec).sampling, options),
        form=form,
        history=_history(options),
        free=_free_text(options),
        choices=told,
    )


def _free_text(options: AnswerOptions) -> FreeText:
    has_form = (options.choices, options.kind, options.schema) != (None, None, None)
    expected = "none where there is `choices`, `kind` or `schema`"
    if options.stop and has_form:
        raise OptionError("stop", options.stop, expected)
    if options.top_logprobs is not None and has_form:
        raise OptionError("top_logprobs", options.top_logprobs, expected)
    for text in options.stop or ():
        check_text("stop", text)
    return FreeText(stop=options.stop or (), top_logprobs=options.top_logprobs)


def _history(options: AnswerOptions) -> History:
    messages = options.history or ()
    if sum(len(message.content) for message in messages) > MAX_CHARACTERS:
        expected = f"texts of at most {MAX_CHARACTERS} characters together"
        raise OptionError("history", options.history, expected)
    for message in messages:
        check_text("history", message.content)
    return History.of(messages)


def _form(options: AnswerOptions) -> AnswerForm | None:
    """Return the form of the answer; None: free text."""
    if options.kind is not None and options.choices is not None:
        raise OptionError("kind", options.kind, "no kind where there are `choices`")
    if options.schema is not None:
        if options.kind is not None or options.choices is not None:
            raise OptionError("schema", options.schema, "none where there is `choices` or `kind`")
        asked = read_schema(options.schema)
        has_budget = options.max_answer_tokens is not None
        return JsonForm(asked.schema, asked.decode, has_budget=has_budget)
    if options.kind == "number":
        return NumberForm()
    if options.kind == "yes/no":
        return ChoiceForm({"yes": True, "no": False})
    if options.choices is None:
        return None
    if sum(map(len, options.choices)) > MAX_CHARACTERS:
        expected = f"texts of at most {MAX_CHARACTERS} characters together"
        raise OptionError("choices", options.choices, expected)
    for choice in options.choices:
        _checked("choices", choice)
    if len(set(options.choices)) < len(options.choices):
        raise OptionError("choices", options.choices, "each text once")
    return ChoiceForm({choice: choice for choice in options.choices})


def _sampling(default: Sampling, options: AnswerOptions) -> Sampling:
    return msgspec.structs.replace(
        default,
        temperature=_either(options.temperature, default.temperature),
        top_p=_either(options.top_p, default.top_p),
        seed=_either(options.seed, default.seed),
    )


def _either(value: V | None, default: V) -> V:
    return default if value is None else value
