"""Training: samples are what the runtime evaluates, branches are apart, killed runs go on."""

import contextlib
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny.tokenizer import write_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from edge_et.export.projector import PixelShuffleProjector
from edge_et.manifest import ChatSpec
from edge_et.prompt import TokenSegment, end_turn, fill, to_segments, user_turn
from edge_et.tokenizer import Tokenizer
from edge_et.tuning import recipe
from edge_et.tuning.align import AlignSettings, align_projector, cell_accuracy
from edge_et.tuning.features import SHARD_SCENES, FeatureShard, shard_path, write_shard
from edge_et.tuning.questions import Example
from edge_et.tuning.samples import (
    IGNORED,
    attention_mask,
    direct,
    extraction_only,
    pack,
    two_stage,
)
from edge_et.tuning.train import TrainSettings, add_adapter, train
from edge_et.vision import ImageTokens

LABELS = 6
WIDTH = 64
CHANNELS = 8

EXAMPLE = Example(
    kind="exists",
    question="Is there a <|im_end|> cat?",
    extraction="The picture shows dog (left). There is no cat.",
    reasoning="The description names no cat.",
    answer="no",
)
OTHER = Example(
    kind="where",
    question="Where is the dog?",
    extraction="The picture shows dog (left).",
    reasoning="The description places dog at the left.",
    answer="left",
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):
    made = write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")
    made.no_truncation()
    made.no_padding()
    return made


@pytest.fixture
def llm() -> LlamaForCausalLM:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=420,
        hidden_size=WIDTH,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config).requires_grad_(requires_grad=False).eval()


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    """Two shards in which a token's features tell its label."""
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((LABELS + 1, CHANNELS))
    paths = []
    for index in range(2):
        labels = rng.integers(-1, LABELS, size=(SHARD_SCENES, 64)).astype(np.int16)
        objects = np.full((SHARD_SCENES, 7, 3), -1, np.int16)
        objects[:, 0] = np.stack(
            [np.arange(SHARD_SCENES) % LABELS, *[np.ones(SHARD_SCENES)] * 2], 1
        )
        patches = np.repeat(np.repeat(labels.reshape(-1, 8, 8), 2, axis=1), 2, axis=2)
        features = directions[patches.reshape(SHARD_SCENES, 256)]
        paths.append(shard_path(tmp_path, index))
        write_shard(paths[-1], FeatureShard(features.astype(np.float16), labels, objects))
    return paths


def new_projector() -> PixelShuffleProjector:
    torch.manual_seed(5)
    return PixelShuffleProjector(vision_width=CHANNELS, factor=2, hidden=16, llm_width=WIDTH)


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
    sample = pack([two_stage(OTHER)], tokenizer)
    assert sample.token_ids[: len(expected)].tolist() == expected

    asked = ids(user_turn(chat, fill(recipe.DIRECT_PROMPT, values, image)))
    expected = [*asked, *runtime.encode(OTHER.answer)]
    assert pack([direct(OTHER)], tokenizer).token_ids[: len(expected)].tolist() == expected


def test_what_is_taught_is_what_the_model_writes(tokenizer):
    sample = pack([two_stage(OTHER), direct(EXAMPLE)], tokenizer)
    taught = sample.targets[sample.targets != IGNORED]
    texts = tokenizer.decode(taught.tolist(), skip_special_tokens=False).split("<|im_end|>\n")
    assert texts == [
        OTHER.extraction,
        f"{OTHER.reasoning}\nAnswer: {OTHER.answer}",
        EXAMPLE.answer,
        "",
    ]


def test_branches_see_the_image_and_themselves_alone(tokenizer, llm: LlamaForCausalLM):
    sample = pack([extraction_only(EXAMPLE), direct(OTHER)], tokenizer)
    alone = pack([direct(OTHER)], tokenizer)

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


def test_alignment_names_cells_and_goes_on_after_a_kill(shards: list[Path], tmp_path: Path):
    torch.manual_seed(1)
    targets = torch.randn(LABELS + 1, WIDTH)
    settings = AlignSettings(steps=60, batch_tokens=256, dropout=0.0, checkpoint_steps=20)
    whole = new_projector()
    align_projector(whole, targets, shards[:1], tmp_path / "whole.pt", settings)
    assert cell_accuracy(whole, targets, shards[1:]) > 0.95

    class KilledError(Exception):
        pass

    def kill(step: int, loss: float, right: float) -> None:
        if step == 40:
            raise KilledError

    killed = new_projector()
    with pytest.raises(KilledError):
        align_projector(killed, targets, shards[:1], tmp_path / "killed.pt", settings, kill)
    resumed = new_projector()
    align_projector(resumed, targets, shards[:1], tmp_path / "killed.pt", settings)
    for once, again in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(once, again)


def test_tuning_learns_and_goes_on_after_a_kill(
    tokenizer, llm: LlamaForCausalLM, shards: list[Path], tmp_path: Path
):
    settings = TrainSettings(
        steps=24, scenes_per_step=4, warmup=2, checkpoint_steps=8, lora_rate=1e-2
    )

    def run(folder: str, stop_at: int | None = None) -> tuple[list[dict], PixelShuffleProjector]:
        records: list[dict] = []

        def on_step(record: dict) -> None:
            if record["step"] == stop_at:
                raise InterruptedError
            records.append(record)

        projector = new_projector()
        torch.manual_seed(9)
        model = add_adapter(LlamaForCausalLM(llm.config).requires_grad_(requires_grad=False))
        path = tmp_path / folder / "tune.pt"
        path.parent.mkdir(exist_ok=True)
        with contextlib.suppress(InterruptedError):
            train(model, projector, tokenizer, shards, path, settings, on_step)
        return records, projector

    records, whole = run("whole")
    assert records[-1]["loss"] < records[0]["loss"] - 0.3
    run("killed", stop_at=11)
    rest, resumed = run("killed")
    assert [record["step"] for record in rest] == list(range(9, 25))
    assert [record["loss"] for record in rest] == [record["loss"] for record in records[8:]]
    for once, again in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(once, again)
