"""Training: it learns what it is asked to, and a killed run goes on."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny.mini_training import KilledError, random_sample
from tiny.mini_vision import CHANNELS, PIXEL_ROWS, WIDTH
from torch.nn.utils import parameters_to_vector
from transformers import LlamaForCausalLM

from edge_et.errors import TuningError
from edge_et.tuning.mini import recipe
from edge_et.tuning.mini.scene_source import Mixture, SceneSource
from edge_et.tuning.mini.vision.vision_head import VisionHead
from edge_et.tuning.training.packed_samples import (
    IGNORED,
    PackedSample,
    attention_mask,
    fill_rows,
    join_row,
)
from edge_et.tuning.training.train import (
    TrainSettings,
    add_adapter,
    batch_loss,
    teacher_forced_accuracy,
    train,
)


def test_samples_of_one_row_do_not_see_each_other(llm: LlamaForCausalLM):
    rng = np.random.default_rng(1)
    samples = [
        random_sample(rng, 10, 30),
        random_sample(rng, 60),
        random_sample(rng, 5, 6, 7),
        random_sample(rng, 70, 80),
    ]
    features = torch.randn(4, recipe.IMAGE_TOKENS, WIDTH)
    model, vision = add_adapter(llm, recipe.LORA), torch.nn.Identity()
    assert len(fill_rows(samples)) < 4
    taught = [int((s.targets != IGNORED).sum()) for s in samples]
    with torch.no_grad():
        alone = [
            float(batch_loss(model, vision, features[n : n + 1], samples[n : n + 1]))
            for n in range(4)
        ]
        together = float(batch_loss(model, vision, features, samples))
    assert together == pytest.approx(np.average(alone, weights=taught), abs=2e-3)
    joined = join_row(samples[:2])
    mask = attention_mask(joined.branches[None])[0, 0]
    first = len(samples[0].token_ids)
    assert not mask[first:, :first].any()


def test_tuning_learns_and_goes_on_after_a_kill(
    tokenizer, llm: LlamaForCausalLM, vision, shards: list[Path], tmp_path: Path
):
    settings = TrainSettings(
        steps=24,
        train=("tower", "projector", "lora"),
        warmup=2,
        checkpoint_steps=8,
        evaluation_steps=12,
        llm_rate=1e-2,
    )
    source = SceneSource(shards, Mixture(extractions=1, direct=1), 4, tokenizer, 0)

    def run(folder: str, stop_at: int | None = None) -> tuple[list[dict], VisionHead]:
        records: list[dict] = []

        def on_step(record: dict) -> None:
            if record["step"] == stop_at:
                raise KilledError
            records.append(record)

        head = vision()[1]
        torch.manual_seed(9)
        model = add_adapter(
            LlamaForCausalLM(llm.config).requires_grad_(requires_grad=False), recipe.LORA
        )
        path = tmp_path / folder / "tune.pt"
        path.parent.mkdir(exist_ok=True)
        with contextlib.suppress(KilledError):
            train(
                model,
                head,
                source,
                path,
                settings,
                evaluate=lambda: {"direct": teacher_forced_accuracy(model, head, *source.batch(0))},
                on_step=on_step,
            )
        return records, head

    records, whole = run("whole")
    losses = [record["loss"] for record in records]
    assert max(losses[-6:]) < min(losses[:3])
    assert 0 <= records[11]["right"]["direct"] <= 1
    run("killed", stop_at=11)
    rest, resumed = run("killed")
    assert [record["step"] for record in rest] == list(range(9, 25))
    assert [record["loss"] for record in rest] == [record["loss"] for record in records[8:]]
    for once, again in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(once, again)
    log = (tmp_path / "killed" / "tune.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == list(range(1, 25))
    assert (tmp_path / "killed" / "tune.png").read_bytes().startswith(b"\x89PNG")


def test_only_what_is_asked_for_learns(
    tokenizer, llm: LlamaForCausalLM, vision, shards: list[Path], tmp_path: Path
):
    head = vision()[1]
    before = {name: p.clone() for name, p in head.named_parameters()}
    source = SceneSource(shards, Mixture(captions=1), 4, tokenizer, 0)
    settings = TrainSettings(steps=2, train=("projector",), warmup=1, projector_rate=1e-2)
    train(add_adapter(llm, recipe.LORA), head, source, tmp_path / "new" / "tune.pt", settings)
    changed = {name for name, p in head.named_parameters() if not torch.equal(p, before[name])}
    assert changed
    assert all(name.startswith(("projector.", "inventory.", "letters.")) for name in changed)


def test_what_weights_were_before_is_kept_in_part(
    tokenizer, llm: LlamaForCausalLM, vision, shards: list[Path], tmp_path: Path
):
    source = SceneSource(shards, Mixture(captions=1), 4, tokenizer, 0)

    def learnt(kept: float, stop_at: int | None = None) -> torch.Tensor:
        def on_step(record: dict) -> None:
            if record["step"] == stop_at:
                raise KilledError

        head = vision()[1]
        torch.manual_seed(9)
        model = add_adapter(
            LlamaForCausalLM(llm.config).requires_grad_(requires_grad=False), recipe.LORA
        )
        settings = TrainSettings(
            steps=3,
            train=("projector", "lora"),
            warmup=1,
            projector_rate=1e-2,
            checkpoint_steps=1,
            kept=kept,
        )
        path = tmp_path / str(kept) / "tune.pt"
        with contextlib.suppress(KilledError):
            train(model, head, source, path, settings, on_step=on_step)
        saved = torch.load(path, weights_only=True)
        weights = parameters_to_vector(
            [p for p in (*model.parameters(), *head.parameters()) if p.requires_grad]
        )
        if stop_at is None:
            assert torch.equal(saved["vision"]["projector.place_codes"], head.projector.place_codes)
        return weights.detach()

    all_the_way, not_at_all = learnt(0.0), learnt(1.0)
    assert not torch.equal(all_the_way, not_at_all)
    learnt(0.25, stop_at=3)
    torch.testing.assert_close(learnt(0.25), torch.lerp(all_the_way, not_at_all, 0.25))


def test_a_part_that_cannot_learn_is_named(llm: LlamaForCausalLM, head, tmp_path: Path):
    model = add_adapter(llm, recipe.LORA)
    with pytest.raises(TuningError, match="not both"):
        train(model, head, None, tmp_path / "a.pt", TrainSettings(steps=1, train=("lora", "llm")))
    settings = TrainSettings(steps=1, train=("projector",))
    with pytest.raises(TuningError, match="no projector"):
        train(model, torch.nn.Identity(), None, tmp_path / "a.pt", settings)


def test_accumulated_batches_are_one_larger_batch(
    tokenizer, llm: LlamaForCausalLM, vision, shards: list[Path], tmp_path: Path
):
    class Halves:
        """The same scenes, whole or in two parts with as many taught tokens."""

        def __init__(self, parts: int) -> None:
            self._parts = parts
            rng = np.random.default_rng(4)
            self._features = torch.randn(4, 609 + PIXEL_ROWS, CHANNELS)
            self._features[:, 577:609] = 0
            self._samples = [random_sample(rng, 20) for _ in range(4)]

        def batch(self, step: int) -> tuple[torch.Tensor, list[PackedSample]]:
            size = 4 // self._parts
            some = slice(step % self._parts * size, (step % self._parts + 1) * size)
            return self._features[some], self._samples[some]

    losses = []
    for parts in (1, 2):
        torch.manual_seed(11)
        records: list[dict] = []
        source = Halves(parts)
        settings = TrainSettings(steps=2, accumulate=parts, train=("projector",), warmup=1)
        path = tmp_path / f"{parts}.pt"
        train(
            add_adapter(llm, recipe.LORA),
            vision()[1],
            source,
            path,
            settings,
            on_step=records.append,
        )
        losses.append([record["loss"] for record in records])
    assert losses[0] == pytest.approx(losses[1], abs=2e-3)
