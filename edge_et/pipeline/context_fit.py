"""Whether a question fits into the contexts, with the picture and all budgets.

In: a bundle's manifest, its models, a request, image tokens of which only the number matters. Out:
nothing, or a `PromptTooLongError` before anything is evaluated.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from edge_et.bundle import HintSpec, Manifest
from edge_et.errors import PromptTooLongError
from edge_et.generation import ChatModel
from edge_et.image import ImageTokens
from edge_et.llm import count_positions, in_a_row
from edge_et.pipeline.models import Models
from edge_et.pipeline.request import Request
from edge_et.results import FinishReason, PhaseUsage, PictureExtraction
from edge_et.stages import (
    Budget,
    History,
    Thinking,
    extraction_prompt,
    fit_hint,
    hint_prompt,
    image_prompt,
    missing_prompt,
    thinking_prompt,
    told_conversation,
    told_together,
)

LEAST_EXTRACTION_TOKENS = 32
"""So many tokens an extraction keeps where a bundle's budget is lowered for several pictures: less
is no sentence."""


def check_fits(
    manifest: Manifest,
    models: Models,
    request: Request,
    images: Sequence[ImageTokens],
    rest: int,
) -> None:
    """Refuse a question whose stages may not fit, and tell what would help.

    Args:
        manifest: prompts and budgets.
        models: who takes part.
        request: what the caller wants.
        images: the pictures that share a prompt, as far as they are known.
        rest: positions of stage 2 as the request wants it, from `stage_2_positions`.

    Raises:
        PromptTooLongError: a context is too short for the prompts and budgets.
    """

    def fits(changed: Request) -> bool:
        positions = stage_2_positions(manifest, models, changed, changed.thinking)
        changed = with_lower_budget(manifest, models, changed, positions)
        try:
            row = images[: changed.pictures]
            _check_stages(manifest, models, changed, row, positions)
        except PromptTooLongError:
            return False
        return True

    try:
        _check_stages(manifest, models, request, images, rest)
    except PromptTooLongError as err:
        helps = _what_helps(request, fits, err)
        raise PromptTooLongError(err.tokens, err.limit, helps=helps) from None


def with_lower_budget(manifest: Manifest, models: Models, request: Request, rest: int) -> Request:
    """Return a request whose extractions fit into stage 2 together, where the caller left it open.

    The bundle's budget is for one picture. Of several that are apart, each gets as much of it as
    there is room for, and `LEAST_EXTRACTION_TOKENS` at least; where that does not fit, or the
    caller has said how many tokens there shall be, the request stays as it is.

    Args:
        manifest: prompts and budgets.
        models: who takes part.
        request: what the caller wants.
        rest: as for `check_fits`.
    """
    if not request.are_apart or request.options.max_extraction_tokens is not None:
        return request
    budget = request.extraction_tokens
    # How often stage 2 reads each extraction.
    times = request.thinking.template.count("{extraction}") + (models.reasoner is None)
    over = _stage_2_most(manifest, models, request, rest)
    over -= models.thinking_model.kv_cache.context_length
    if over <= 0 or times == 0:
        return request
    lowered = budget - math.ceil(over / (times * request.pictures))
    least = min(budget, LEAST_EXTRACTION_TOKENS)
    return replace(request, extraction_tokens=lowered) if lowered >= least else request


def check_fits_at_once(
    models: Models, request: Request, image: ImageTokens, template: str, budget: int
) -> None:
    """Refuse a question for the one-stage baseline that may not fit, and tell what would help.

    Args:
        models: who takes part.
        request: what the caller wants.
        image: the picture.
        template: the user's turn.
        budget: most tokens of the answer.

    Raises:
        PromptTooLongError: prompt and budget do not fit.
    """

    def check(asked: Request, tokens: int) -> None:
        prompt = image_prompt(models.perceiver, template, image, asked.question)
        if (form := asked.form) is not None:
            tokens = form.cost(models.perceiver.tokenizer, "", tokens).positions
        check_length(models.perceiver, count_positions(prompt) + tokens)

    def fits(changed: Request) -> bool:
        try:
            check(changed, budget if changed.thinking is request.thinking else 1)
        except PromptTooLongError:
            return False
        return True

    try:
        check(request, budget)
    except PromptTooLongError as err:
        helps = _what_helps(request, fits, err, budget)
        raise PromptTooLongError(err.tokens, err.limit, helps=helps) from None


def check_text_fits(models: Models, request: Request) -> None:
    """Refuse a question without a picture that may not fit, and tell what would help.

    Args:
        models: who takes part.
        request: what the caller wants, without a picture.

    Raises:
        PromptTooLongError: prompt and budgets do not fit.
    """
    chat_model = models.thinking_model

    def check(asked: Request) -> None:
        thinking = asked.thinking
        prompt = thinking_prompt(chat_model, thinking, asked.question, "", None)
        needed = count_positions(prompt) + thinking.positions(chat_model.tokenizer)
        check_length(chat_model, needed)

    def fits(changed: Request) -> bool:
        try:
            check(changed)
        except PromptTooLongError:
            return False
        return True

    try:
        check(request)
    except PromptTooLongError as err:
        budget = request.thinking.budget
        helps = _what_helps(request, fits, err, budget.thinking + budget.answer)
        raise PromptTooLongError(err.tokens, err.limit, helps=helps) from None


def check_alone(models: Models, images: Sequence[ImageTokens]) -> None:
    """Refuse a picture that fills the context without any question.

    Args:
        models: who takes part.
        images: the picture is the last one.

    Raises:
        PromptTooLongError: it does.
    """
    check_length(models.perceiver, len(images[-1].rows) + 1, helps=())


def check_length(
    chat_model: ChatModel, positions: int, *, helps: Iterable[str] | None = None
) -> None:
    """Refuse what a chat model's cache cannot hold.

    Args:
        chat_model: whose cache.
        positions: the most that are needed.
        helps: as for `PromptTooLongError`.

    Raises:
        PromptTooLongError: the cache is too short.
    """
    limit = chat_model.kv_cache.context_length
    if positions > limit:
        raise PromptTooLongError(positions, limit, helps=helps)


def _check_stages(
    manifest: Manifest, models: Models, request: Request, images: Sequence[ImageTokens], rest: int
) -> None:
    asked = asks_for_hint(manifest, models, request)
    if asked is not None:
        hint_model, spec = asked
        prompt = hint_prompt(hint_model, spec, manifest.think, request.question)
        check_length(hint_model, count_positions(prompt) + spec.max_hint_tokens)
    hint = "" if asked else given_hint(manifest, request)
    extract = manifest.extract
    row = in_a_row(images, extract.between_pictures)
    prompt = extraction_prompt(models.perceiver, extract, row, request.question, hint)
    first = count_positions(prompt) + request.most_extracted
    if asked is not None:
        first += _hint_positions(manifest, asked[1])
    second = _stage_2_most(manifest, models, request, rest)
    if request.looks:
        second = max(second, _asking_most(manifest, models, request))
    if models.reasoner is None and not request.are_apart:
        check_length(models.perceiver, first + second)
    else:
        check_length(models.perceiver, first)
        check_length(models.thinking_model, second)


def _stage_2_most(manifest: Manifest, models: Models, request: Request, rest: int) -> int:
    """Return the most positions of stage 2, behind stage 1 where it goes on there.

    Tokens of one model; the other may need some more, and is asked again in stage 2.
    """
    thinking = request.thinking
    without_thinking = thinking.without_thinking(request.plain_sampling)
    second = max(
        rest + thinking.budget.thinking,
        stage_2_positions(manifest, models, request, without_thinking),
    )
    times = thinking.template.count("{extraction}")
    if models.reasoner is None and request.are_apart:
        times += 1  # in the conversation that is told
    answer = thinking.answer_cost(models.thinking_model.tokenizer).positions
    return second + answer + times * _told_positions(manifest, models, request)


def _asking_most(manifest: Manifest, models: Models, request: Request) -> int:
    """Return the most positions of asking what is missing, where it is asked behind stage 1."""
    chat_model, think = models.thinking_model, manifest.think
    earlier = () if models.reasoner is None else None
    prompt = missing_prompt(chat_model, think, request.question, "", earlier)
    spec = think.look_again
    told = spec.prompt.count("{extraction}") * request.most_extracted
    return count_positions(prompt) + told + spec.max_detail_tokens


def _told_positions(manifest: Manifest, models: Models, request: Request) -> int:
    """Return the most positions that the text of all extractions takes."""
    if not request.are_apart:
        return request.most_extracted
    tokenizer = models.thinking_model.tokenizer

    def positions(reason: FinishReason) -> int:
        empty = PictureExtraction(text="", finish_reason=reason, usage=PhaseUsage())
        text = told_together(manifest.think.pictures, [empty] * request.pictures)
        return len(tokenizer.encode(text))

    written = positions("stop") + request.pictures * request.extraction_tokens
    return written if request.options.deadline_s is None else max(written, positions("deadline"))


def _hint_positions(manifest: Manifest, spec: HintSpec) -> int:
    return spec.max_hint_tokens * manifest.extract.hint_places


def _what_helps(
    request: Request,
    fits: Callable[[Request], bool],
    err: PromptTooLongError,
    budgets: int | None = None,
) -> list[str]:
    """Return what makes a request fit that does not, the picture left as it is.

    Args:
        request: what the caller wants.
        fits: whether another request would fit.
        err: tells what is needed.
        budgets: how many of these tokens are budgets; None: those of both stages.
    """
    least = request.thinking.without_thinking(request.plain_sampling)
    least = replace(least, budget=Budget(thinking=0, answer=1))
    told = request.thinking.history != History()

    def with_short_texts(request: Request) -> Request:
        thinking = request.thinking
        if told:
            thinking = replace(thinking, history=History())
        return replace(request, question="?", hint=request.hint and "?", thinking=thinking)

    if budgets is None:
        stages = 1 + request.thinking.template.count("{extraction}")
        budget = request.thinking.budget
        budgets = stages * request.pictures * request.most_extracted
        budgets += budget.thinking + budget.answer
    frugal = replace(request, extraction_tokens=1, thinking=least)
    texts = ["the question", *["the hint"] * bool(request.hint), *["the history"] * told]
    shorten = f"shorten {' and '.join(texts)}"
    lower = "lower the token budgets"
    helping = [shorten] if fits(with_short_texts(request)) else []
    # A very long text takes long to count once more, and is reason enough.
    is_short = err.tokens - budgets <= 2 * err.limit
    if is_short and fits(frugal):
        helping.append(lower)
    if request.looks and fits(replace(request, looks=0)):
        helping.append("look again less often (look_again)")
    fewer = (replace(request, pictures=count) for count in range(request.pictures - 1, 0, -1))
    if is_short and (fitting := next(filter(fits, fewer), None)):
        helping.append(f"give at most {fitting.pictures} of the {request.pictures} pictures")
    if not helping and fits(with_short_texts(frugal)):
        helping.append(f"{shorten} and {lower}")
    return helping


def stage_2_positions(
    manifest: Manifest, models: Models, request: Request, thinking: Thinking
) -> int:
    """Return the positions of stage 2 that have to be read, but for the extraction."""
    chat_model = models.thinking_model
    earlier = () if models.reasoner is None else None
    prompt = thinking_prompt(chat_model, thinking, request.question, "", earlier)
    positions = count_positions(prompt) + thinking.closing_positions(chat_model.tokenizer)
    if models.reasoner is None and request.are_apart:
        asked = asks_for_hint(manifest, models, request)
        hint = "" if asked else given_hint(manifest, request)
        told = told_conversation(chat_model, manifest.extract, request.question, hint, "")
        positions += count_positions(told)
        positions += 0 if asked is None else _hint_positions(manifest, asked[1])
    return positions


def asks_for_hint(
    manifest: Manifest, models: Models, request: Request
) -> tuple[ChatModel, HintSpec] | None:
    """Return who is asked for a hint, and how; None where nobody has to be."""
    spec, hint_model = manifest.extract.hint, models.hint_model
    placed = manifest.extract.hint_places
    if spec is None or hint_model is None or request.hint is not None or not placed:
        return None
    return hint_model, spec


def given_hint(manifest: Manifest, request: Request) -> str:
    """Return the hint that nobody is asked for: the caller's, else what the bundle has for it."""
    extract = manifest.extract
    default = extract.default_hint.replace("{question}", request.question)
    return fit_hint(extract, request.hint or default)
