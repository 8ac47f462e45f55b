"""Whether a question fits into the contexts, with the picture and all budgets.

In: a bundle's manifest, its models, a request, image tokens of which only the number matters. Out:
nothing, or a `PromptTooLongError` before anything is evaluated.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from edge_et.bundle import HintSpec, Manifest
from edge_et.errors import PromptTooLongError
from edge_et.generation import ChatModel
from edge_et.image import ImageTokens
from edge_et.llm import count_positions
from edge_et.pipeline.models import Models
from edge_et.pipeline.request import Request
from edge_et.stages import (
    HINT_PLACEHOLDER,
    Budget,
    Thinking,
    fit_hint,
    hint_prompt,
    image_prompt,
    thinking_prompt,
)


def check_fits(
    manifest: Manifest, models: Models, request: Request, image: ImageTokens, rest: int
) -> None:
    """Refuse a question whose stages may not fit, and tell what would help.

    Args:
        manifest: prompts and budgets.
        models: who takes part.
        request: what the caller wants.
        image: the picture.
        rest: positions of stage 2 as the request wants it, from `stage_2_positions`.

    Raises:
        PromptTooLongError: a context is too short for the prompts and budgets.
    """

    def fits(changed: Request) -> bool:
        positions = stage_2_positions(models, changed, changed.thinking)
        try:
            _check_stages(manifest, models, changed, image, positions)
        except PromptTooLongError:
            return False
        return True

    try:
        _check_stages(manifest, models, request, image, rest)
    except PromptTooLongError as err:
        helps = _what_helps(request, fits, err)
        raise PromptTooLongError(err.tokens, err.limit, helps=helps) from None


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
        if (form := asked.thinking.form) is not None:
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
    manifest: Manifest, models: Models, request: Request, image: ImageTokens, rest: int
) -> None:
    asked = asks_for_hint(manifest, models, request)
    if asked is not None:
        hint_model, spec = asked
        prompt = hint_prompt(hint_model, spec, manifest.think, request.question)
        check_length(hint_model, count_positions(prompt) + spec.max_hint_tokens)
    hint = "" if asked else given_hint(manifest, request)
    template, thinking = manifest.extract.prompt, request.thinking
    prompt = image_prompt(models.perceiver, template, image, request.question, hint)
    first = count_positions(prompt) + request.extraction_tokens
    if asked is not None:
        first += asked[1].max_hint_tokens * template.count(HINT_PLACEHOLDER)
    # Tokens of one model; the other may need some more, and is asked again in stage 2.
    second = max(
        rest + thinking.budget.thinking,
        stage_2_positions(models, request, thinking.without_thinking(request.plain_sampling)),
    )
    second += thinking.answer_cost(models.thinking_model.tokenizer).positions
    second += request.extraction_tokens * thinking.template.count("{extraction}")
    if models.reasoner is None:
        check_length(models.perceiver, first + second)
    else:
        check_length(models.perceiver, first)
        check_length(models.reasoner, second)


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

    def with_short_texts(request: Request) -> Request:
        return replace(request, question="?", hint=request.hint and "?")

    if budgets is None:
        stages = 1 + request.thinking.template.count("{extraction}")
        budget = request.thinking.budget
        budgets = stages * request.extraction_tokens + budget.thinking + budget.answer
    frugal = replace(request, extraction_tokens=1, thinking=least)
    shorten = "shorten the question" + (" and the hint" if request.hint else "")
    lower = "lower the token budgets"
    helping = [shorten] if fits(with_short_texts(request)) else []
    # A very long text takes long to count once more, and is reason enough.
    if err.tokens - budgets <= 2 * err.limit and fits(frugal):
        helping.append(lower)
    if not helping and fits(with_short_texts(frugal)):
        helping.append(f"{shorten} and {lower}")
    return helping


def stage_2_positions(models: Models, request: Request, thinking: Thinking) -> int:
    """Return the positions of stage 2 that have to be read, but for the extraction."""
    chat_model = models.thinking_model
    earlier = () if models.reasoner is None else None
    prompt = thinking_prompt(chat_model, thinking, request.question, "", earlier)
    return count_positions(prompt) + thinking.closing_positions(chat_model.tokenizer)


def asks_for_hint(
    manifest: Manifest, models: Models, request: Request
) -> tuple[ChatModel, HintSpec] | None:
    """Return who is asked for a hint, and how; None where nobody has to be."""
    spec, hint_model = manifest.extract.hint, models.hint_model
    placed = HINT_PLACEHOLDER in manifest.extract.prompt
    if spec is None or hint_model is None or request.hint is not None or not placed:
        return None
    return hint_model, spec


def given_hint(manifest: Manifest, request: Request) -> str:
    """Return the hint that nobody is asked for: the caller's, else the question."""
    return fit_hint(manifest.extract.prompt, request.hint or request.question)
