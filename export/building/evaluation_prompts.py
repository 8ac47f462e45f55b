"""Evaluation prompts: prompts of both stages as the runtime will write them.

A build compares its models on them. In: the models of both stages, a vision graph, examples. Out:
segments of tokens and image tokens. The module also compares prompt tokens with those of
transformers, and bounds the image tokens of a picture.
"""

import math
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from PIL import Image

from edge_et.bundle import ExtractSpec, ThinkSpec, VisionSpec
from edge_et.cancellation import CancelToken
from edge_et.export.building.stage_specs import StageModel
from edge_et.export.chat.prompt_tokens import llm_prompts_that_differ, require_equal_prompts
from edge_et.export.chat.reference import Reference
from edge_et.export.steps import StepReport, Stopwatch
from edge_et.image import ImageEncoder, VisionTower
from edge_et.llm import (
    Part,
    Plain,
    Segment,
    Trusted,
    fill,
    system_turn,
    to_segments,
    told_reply,
    user_turn,
)
from edge_et.options import DEFAULT_MAX_PIXELS, parse_options
from edge_et.quantize.example_dialogues import Example
from edge_et.stages import drain, extraction_turns
from edge_et.threads import available_cpus

Prompt = tuple[Segment, ...]

Shown = tuple[Image.Image, str, str]
"""A picture, what to pay attention to, and a description, which may be empty."""

_TILES = 2  # of a picture: all of it, and a grid of one


def most_image_tokens(spec: VisionSpec) -> int:
    """Give a bound on the image tokens of a picture of any size.

    Args:
        spec: the bundle's rules.
    """
    tile = spec.image_tokens_per_tile
    if spec.pooling > 1:
        tile = math.ceil(math.isqrt(tile) / spec.pooling) ** 2
    newline = spec.arrangement == "unpadded"
    markup = spec.markup
    size = spec.processing.whole_size
    whole = tile if size is None else size.most_tokens
    most = whole + newline + (0 if markup is None else markup.count(0, 0))
    if (tiling := spec.processing.tiling) is None:
        return most
    for columns, rows in tiling.possible_grids:
        tiles = columns * rows
        if tiling.max_tiles is not None and tiles + 1 > tiling.max_tiles:
            continue
        grid = tiles * tile + (0 if markup is None else markup.count(columns, rows))
        if newline and tiling.shrink_over_tiles is not None:
            # A map is left as it is up to 1.1 times the side of the largest.
            grid = min(grid, int(1.21 * tiling.shrink_over_tiles * tile))
        most = max(most, whole + grid + newline * rows * math.isqrt(tile))
    return most


def perceiver_prompts(
    model: StageModel,
    extract: ExtractSpec,
    graph: Path,
    spec: VisionSpec,
    shown: Iterable[Shown],
) -> list[Prompt]:
    """Write prompts of stage 1, each with a description behind it.

    Args:
        model: the perceiver.
        extract: stage 1 of the bundle.
        graph: makes the image tokens.
        spec: the bundle's rules.
        shown: the pictures.
    """
    prompts = []
    few_tiles = parse_options({"max_tiles": _TILES})
    with closing(VisionTower(graph, spec, available_cpus())) as tower:
        encoder = ImageEncoder(spec, tower, max_pixels=DEFAULT_MAX_PIXELS, cache_bytes=0)
        for picture, hint, description in shown:
            prepared = encoder.prepare(picture, few_tiles, lambda tokens: None)
            image, _ = drain(encoder.encode(prepared, CancelToken()))
            turns = extraction_turns(model.chat, extract, hint, hint, image)
            said = told_reply(model.chat, description)
            prompts.append(to_segments([*turns, *said], model.tokenizer))
    return prompts


def reasoner_prompts(
    model: StageModel, think: ThinkSpec, examples: Sequence[Example]
) -> list[Prompt]:
    """Write prompts of stage 2, each with a thought and an answer behind it.

    Args:
        model: the reasoner.
        think: stage 2 of the bundle.
        examples: what to think about.
    """
    prompts = []
    for example in examples:
        words = {"extraction": example.extraction, "question": example.question}
        template = think.thoughts.prompt if think.thoughts else think.prompt
        parts = [*system_turn(model.chat), *user_turn(model.chat, fill(template, words))]
        parts += _written(think, example)
        prompts.append(to_segments(parts, model.tokenizer))
    return prompts


def check_reasoner_tokens(reference: Reference, model: StageModel, think: ThinkSpec) -> StepReport:
    """Compare the tokens of whole prompts of stage 2 with those of a reference.

    Args:
        reference: of the checkpoint, with its own chat template.
        model: the reasoner.
        think: stage 2 of the bundle.

    Returns:
        A report whose error is the number of prompts that differ, which is 0.

    Raises:
        VocabularyError: the chat template cannot be rendered.
        ParityError: a prompt differs.
    """
    watch = Stopwatch()
    told = think.choices
    silent = [think.prompt, *([told.prompt] if told else [])]
    thoughtful = []
    if think.thoughts is not None:
        thoughtful = [think.thoughts.prompt]
        thoughtful += [told.thoughts_prompt] if told and told.thoughts_prompt else []
    differing = [
        question
        for thinks, prompts in ((True, thoughtful), (False, silent))
        for prompt in prompts
        for question in llm_prompts_that_differ(
            reference, model.chat, prompt, thoughts=model.thoughts, thinks=thinks
        )
    ]
    return require_equal_prompts(reference, differing, "prompts that differ", watch)


def _written(think: ThinkSpec, example: Example) -> list[Part]:
    if think.thoughts is None:
        return [Plain(f"{example.reasoning}\n{example.answer}")]
    return [
        Trusted(think.thoughts.start + (think.thoughts.start_suffix or "\n")),
        Plain(f"{example.reasoning}\n"),
        Trusted(think.thoughts.end),
        Plain(f"\n\n{example.answer}"),
    ]
