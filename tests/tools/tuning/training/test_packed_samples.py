"""Packed samples are what the runtime evaluates, and their branches are apart."""

import itertools
from pathlib import Path

import numpy as np
import torch
from tiny.mini_training import EXAMPLE, OTHER, random_sample
from tiny.mini_vision import WIDTH
from transformers import LlamaForCausalLM

from edge_et.bundle import ChatSpec
from edge_et.image import ImageTokens
from edge_et.llm import Tokenizer, TokenSegment, end_turn, fill, to_segments, user_turn
from edge_et.tuning.mini import recipe
from edge_et.tuning.mini.facts import PrintFacts, printed_words
from edge_et.tuning.mini.recipe import PROMPTS
from edge_et.tuning.training.conversations import direct, extraction_only, practice, two_stage
from edge_et.tuning.training.example import Example
from edge_et.tuning.training.packed_samples import (
    IGNORED,
    ROW_TOKENS,
    attention_mask,
    fill_rows,
    pack,
)


def test_a_sample_is_the_token_sequence_of_the_runtime(tokenizer, tmp_path: Path):
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    runtime = Tokenizer(tmp_path / "tokenizer.json")
    chat = ChatSpec(
        turn_start=recipe.TURN_START,
        turn_end=recipe.TURN_END,
        system=None,
        stop_tokens=recipe.STOP_TOKENS,
    )
    image = ImageTokens(np.zeros((recipe.IMAGE_TOKENS, WIDTH), np.float32), "digest")
    values = {"question": OTHER.question}

    def ids(parts) -> list[int]:
        segments = to_segments(parts, runtime)
        return list(
            itertools.chain.from_iterable(
                s.ids if isinstance(s, TokenSegment) else [0] * len(s) for s in segments
            )
        )

    first = ids(user_turn(chat, fill(recipe.EXTRACT_PROMPT, values, image)))
    second = ids([*end_turn(chat), *user_turn(chat, fill(recipe.THINK_PROMPT, values))])
    thought = f"{OTHER.reasoning}\n{recipe.ANSWER_MARKER} {OTHER.answer}"
    expected = [*first, *runtime.encode(OTHER.extraction), *second, *runtime.encode(thought)]
    sample = pack([two_stage(OTHER, PROMPTS)], tokenizer, PROMPTS)
    assert sample.token_ids[: len(expected)].tolist() == expected

    asked = ids(user_turn(chat, fill(recipe.DIRECT_PROMPT, values, image)))
    expected = [*asked, *runtime.encode(OTHER.answer)]
    sample = pack([direct(OTHER, PROMPTS)], tokenizer, PROMPTS)
    assert sample.token_ids[: len(expected)].tolist() == expected


def test_what_is_taught_is_what_the_model_writes(tokenizer):
    sample = pack([two_stage(OTHER, PROMPTS), direct(EXAMPLE, PROMPTS)], tokenizer, PROMPTS)
    taught = sample.targets[sample.targets != IGNORED]
    texts = tokenizer.decode(taught.tolist(), skip_special_tokens=False).split("<|im_end|>\n")
    assert texts == [
        OTHER.extraction,
        f"{OTHER.reasoning}\nAnswer: {OTHER.answer}",
        EXAMPLE.answer,
        "",
    ]


def test_printed_words_are_taught_letter_by_letter(tokenizer):
    facts = PrintFacts("label", ("show", "12"))
    assert printed_words(facts) == {"show"}
    example = Example(
        kind="read_word",
        question="What shows the label, show or shower?",
        extraction="The label reads show, 12.",
        reasoning="The label says show.",
        answer="show",
    )
    turns = [two_stage(example, PROMPTS), direct(example, PROMPTS)]
    whole, spelled = (
        pack(turns, tokenizer, PROMPTS, [words] * 2) for words in ((), printed_words(facts))
    )
    written = ["Ġs", "h", "o", "w"]
    for sample, times in ((whole, 0), (spelled, 3)):
        tokens = [tokenizer.id_to_token(number) for number in sample.token_ids]
        found = [n for n in range(len(tokens)) if tokens[n : n + 4] == written]
        assert len(found) == times
        for start in found:
            assert sample.targets[start - 1 : start + 3].tolist() == [
                tokenizer.token_to_id(letter) for letter in written
            ]
        assert tokenizer.decode(sample.token_ids).count("show") == 13
    answer = [tokenizer.id_to_token(number) for number in spelled.token_ids[-6:-2]]
    assert answer == list("show")


def test_practice_teaches_to_think_over_an_extraction_that_is_given(tokenizer):
    words = [{OTHER.extraction.split()[-1].strip(".")}]
    sample, whole = (
        pack([turns(OTHER, PROMPTS)], tokenizer, PROMPTS, words) for turns in (practice, two_stage)
    )
    assert np.array_equal(sample.token_ids, whole.token_ids)
    taught = sample.targets[sample.targets != IGNORED]
    assert tokenizer.decode(taught.tolist()) == f"{OTHER.reasoning}\nAnswer: {OTHER.answer}\n"


def test_branches_see_the_image_and_themselves_alone(tokenizer, llm: LlamaForCausalLM):
    sample = pack([extraction_only(EXAMPLE, PROMPTS), direct(OTHER, PROMPTS)], tokenizer, PROMPTS)
    alone = pack([direct(OTHER, PROMPTS)], tokenizer, PROMPTS)

    def hidden(ids: np.ndarray, packed) -> torch.Tensor:
        with torch.no_grad():
            return llm.model(
                input_ids=torch.from_numpy(ids)[None],
                attention_mask=torch.from_numpy(attention_mask(packed.branches[None])),
                position_ids=torch.from_numpy(packed.positions)[None],
            )[0][0]

    usual = hidden(sample.token_ids, sample)[sample.branches == 2]
    changed = sample.token_ids.copy()
    changed[sample.branches == 1] = 7
    assert torch.equal(hidden(changed, sample)[sample.branches == 2], usual)
    torch.testing.assert_close(hidden(alone.token_ids, alone)[alone.branches == 1], usual)
    changed = sample.token_ids.copy()
    changed[sample.image_start] = 7
    assert not torch.equal(hidden(changed, sample)[sample.branches == 2], usual)


def test_rows_hold_every_sample_once_and_are_no_longer_than_need_be():
    rng = np.random.default_rng(0)
    samples = [random_sample(rng, int(n)) for n in rng.integers(20, 200, size=30)]
    rows = fill_rows(samples)
    assert sorted(itertools.chain.from_iterable(rows)) == list(range(30))
    lengths = [sum(len(samples[n].token_ids) for n in row) for row in rows]
    assert max(lengths) <= ROW_TOKENS
    assert sum(lengths) / (len(rows) * max(lengths)) > 0.8
    assert fill_rows([random_sample(rng, 2000)]) == [[0]]
