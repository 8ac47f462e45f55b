"""Whether a question fits into the contexts, with the picture and all budgets.

In: a bundle's manifest, its models, a request, image tokens of which only the number matters. Out:
nothing, or a `PromptTooLongError` before anything is evaluated.
"""

from edge_et.bundle import HintSpec, Manifest
from edge_et.errors import PromptTooLongError
from edge_et.generation import ChatModel
from edge_et.image import ImageTokens
from edge_et.llm import count_positions
from edge_et.pipeline.models import Models
from edge_et.pipeline.request import Request
from edge_et.stages import (
    HINT_PLACEHOLDER,
    Thinking,
    fit_hint,
    hint_prompt,
    image_prompt,
    thinking_prompt,
)


def check_fits(
    manifest: Manifest, models: Models, request: Request, image: ImageTokens, rest: int
) -> None:
    """Refuse a question whose stages may not fit.

    Args:
        manifest: prompts and budgets.
        models: who takes part.
        request: what the caller wants.
        image: the picture.
        rest: positions of stage 2 as the request wants it, from `stage_2_positions`.

    Raises:
        PromptTooLongError: a context is too short for the prompts and budgets.
    """
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
    second += thinking.budget.answer
    second += request.extraction_tokens * thinking.template.count("{extraction}")
    if models.reasoner is None:
        check_length(models.perceiver, first + second)
    else:
        check_length(models.perceiver, first)
        check_length(models.reasoner, second)


def check_fits_at_once(
    models: Models, request: Request, image: ImageTokens, template: str, budget: int
) -> None:
    """Refuse a question for the one-stage baseline that may not fit.

    Args:
        models: who takes part.
        request: what the caller wants.
        image: the picture.
        template: the user's turn.
        budget: most tokens of the answer.

    Raises:
        PromptTooLongError: prompt and budget do not fit.
    """
    prompt = image_prompt(models.perceiver, template, image, request.question)
    check_length(models.perceiver, count_positions(prompt) + budget)


def check_length(chat_model: ChatModel, positions: int) -> None:
    """Refuse what a chat model's cache cannot hold.

    Args:
        chat_model: whose cache.
        positions: the most that are needed.

    Raises:
        PromptTooLongError: the cache is too short.
    """
    if positions > chat_model.kv_cache.context_length:
        raise PromptTooLongError(positions, chat_model.kv_cache.context_length)


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
