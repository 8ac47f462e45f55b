"""Tuning on a person's own pictures: from a folder of labels to a personal bundle.

In: pictures and a bundle of the mini recipe. Out: the same bundle with an adapter that knows the
labels, and how often it is right on pictures kept apart, before and after. The vision side stays as
it is, so its image tokens are made once, by the runtime.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from tokenizers import Tokenizer

import edge_et
from edge_et.benchmarks.quality.accuracy import Accuracy
from edge_et.benchmarks.quality.scoring import is_right
from edge_et.bundle import Bundle, Manifest, Source, find_bundle, load_bundle
from edge_et.errors import TuningError
from edge_et.export.building.assemble import (
    BundleTemplate,
    ModelFiles,
    ModelTemplate,
    PackageFile,
    assemble_bundle,
)
from edge_et.export.llm.export_lora import export_lora
from edge_et.tuning.mini import recipe
from edge_et.tuning.mini.facts import Label, ObjectFacts, SceneObject
from edge_et.tuning.mini.questions.ask import ask
from edge_et.tuning.own.own_pictures import OwnPicture, OwnPictures, vary
from edge_et.tuning.training.conversations import direct, extraction_only, two_stage
from edge_et.tuning.training.example import Example
from edge_et.tuning.training.gguf_model import load_llm
from edge_et.tuning.training.lora_file import read_adapter, save_peft_adapter
from edge_et.tuning.training.packed_samples import PackedSample, pack
from edge_et.tuning.training.train import TrainSettings, add_adapter, train
from edge_et.tuning.training.training_checkpoint import load_checkpoint

if TYPE_CHECKING:
    from edge_et.pipeline import ExtractThink

Say = Callable[[str], None]

NAME_QUESTION = "What is this?"
EXISTS_QUESTION = "Is there {article} {label} in the picture?"
_VARIATIONS = 6
_PICTURES_PER_STEP = 8
_RATE = 4e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnScore:
    """How often a bundle is right about pictures that were kept apart.

    Attributes:
        naming: asked what it is.
        existence: asked, for each label, whether it is there.
    """

    naming: Accuracy
    existence: Accuracy


def tune_own(
    pictures: OwnPictures, bundle: Bundle, out: Path, work: Path, steps: int, say: Say
) -> tuple[OwnScore, OwnScore]:
    """Make a personal bundle.

    Args:
        pictures: from `read_own_pictures`.
        bundle: of the mini recipe, with an adapter.
        out: folder of the new bundle, replaced if it is a bundle.
        work: folder for the checkpoint; a killed run goes on from it.
        steps: of training, each on 8 pictures.
        say: told a line now and then.

    Returns:
        Scores before and after, through the runtime.

    Raises:
        TuningError: the bundle is of another recipe.
        BundleError: the bundle cannot be used.
        ToolError: a step failed; nothing is left in `out`.
    """
    manifest = bundle.manifest
    adapter_ref = manifest.perceiver.adapter
    prompts = (manifest.extract.prompt, manifest.think.prompt)
    if adapter_ref is None or prompts != (recipe.EXTRACT_PROMPT, recipe.THINK_PROMPT):
        raise TuningError(f"{bundle.folder} is no bundle of the mini recipe, with its LoRA adapter")
    with edge_et.load(bundle.folder, use_profile=False) as pipe:
        before = score(pipe, pictures.held_out, pictures.labels)
        say(f"before: {_told(before)}")
        source = _OwnSource(pipe, pictures, bundle)
    base = bundle.path(manifest.perceiver.weights)
    model = add_adapter(load_llm(base), recipe.LORA)
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model, read_adapter(bundle.path(adapter_ref), base))
    checkpoint = work / f"own-{_run_key(pictures, bundle, steps)}.pt"
    train(
        model,
        torch.nn.Identity(),
        source,
        checkpoint,
        TrainSettings(steps=steps, train=("lora",), llm_rate=_RATE, warmup=min(10, steps)),
        on_step=lambda record: say(f"step {record['step']} of {steps}: loss {record['loss']}"),
    )
    state = load_checkpoint(checkpoint)
    assert state is not None
    adapter = export_lora(
        save_peft_adapter(state["adapter"], recipe.LORA, work / "adapter"),
        base,
        work / "lora.gguf",
    )
    _assemble(bundle, adapter.path, out, pictures)
    with edge_et.load(out, use_profile=False) as pipe:
        after = score(pipe, pictures.held_out, pictures.labels)
    say(f"after: {_told(after)}")
    return before, after


def score(pipe: ExtractThink, pictures: Sequence[OwnPicture], labels: Sequence[str]) -> OwnScore:
    """Ask a bundle about pictures: once what it is, and for every label whether it is there."""
    named = existing = 0
    for item in pictures:
        image = pipe.encode_image(item.picture)
        named += is_right(pipe.answer(image, NAME_QUESTION).text, item.label)
        for label in labels:
            expected = "yes" if label == item.label else "no"
            existing += is_right(pipe.answer(image, _exists(label)).text, expected)
    return OwnScore(
        naming=Accuracy(right=named, asked=len(pictures)),
        existence=Accuracy(right=existing, asked=len(pictures) * len(labels)),
    )


class _OwnSource:
    """Draws pictures, each in one of its variations, with questions about the labels."""

    def __init__(self, pipe: ExtractThink, pictures: OwnPictures, bundle: Bundle) -> None:
        rng = np.random.default_rng(0)
        self._labels = [Label(label, None, label + "s") for label in pictures.labels]
        self._shown = [pictures.labels.index(item.label) for item in pictures.training]
        self._tokens = [
            [
                pipe.encode_image(item.picture if k == 0 else vary(item.picture, rng)).rows
                for k in range(_VARIATIONS)
            ]
            for item in pictures.training
        ]
        self._tokenizer = Tokenizer.from_file(str(bundle.path(bundle.manifest.perceiver.tokenizer)))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def batch(self, step: int) -> tuple[torch.Tensor, list[PackedSample]]:
        rng = np.random.default_rng([1, step])
        drawn = rng.choice(len(self._shown), _PICTURES_PER_STEP)
        rows = [self._tokens[n][int(rng.integers(_VARIATIONS))] for n in drawn]
        samples = [self._sample(self._shown[n], rng) for n in drawn]
        return torch.from_numpy(np.stack(rows)), samples

    def _sample(self, shown: int, rng: np.random.Generator) -> PackedSample:
        label = self._labels[shown]
        others = [other for other in self._labels if other != label]
        absent = others[int(rng.integers(len(others)))]
        name = _asked(label, "name", rng)
        present, missing = _asked(label, "exists", rng), _missing(label, absent, rng)
        both = [present, missing] if rng.random() < 0.5 else [missing, present]
        turns = [
            two_stage(name, recipe.PROMPTS),
            two_stage(both[0], recipe.PROMPTS),
            extraction_only(both[1], recipe.PROMPTS),
            direct(name, recipe.PROMPTS),
            direct(both[1], recipe.PROMPTS),
        ]
        return pack(turns, self._tokenizer, recipe.PROMPTS)


def _asked(label: Label, kind: str, rng: np.random.Generator) -> Example:
    """Draw a question about a picture of one thing, with the right answer; never a "no"."""
    facts = ObjectFacts((SceneObject(label, 0.5, 0.5, 0.8),))
    while True:
        example = ask(facts, kind, rng)
        assert example is not None
        if example.answer != "no":
            return example


def _missing(label: Label, absent: Label, rng: np.random.Generator) -> Example:
    """Ask about a label of another picture: the question of that one, the answer of this one."""
    return Example(
        kind="exists",
        question=_asked(absent, "exists", rng).question,
        extraction=f"The picture shows {label.words} (center). There is no {absent.words}.",
        reasoning=f"The description names no {absent.words}.",
        answer="no",
    )


def _run_key(pictures: OwnPictures, bundle: Bundle, steps: int) -> str:
    """Name a run by what goes into it: other pictures must not go on from its checkpoint."""
    digest = hashlib.sha256(f"{bundle.manifest.perceiver.adapter} {steps}".encode())
    for item in pictures.training:
        digest.update(item.label.encode() + item.picture.tobytes())
    return digest.hexdigest()[:12]


def _exists(label: str) -> str:
    article = "an" if label[0].lower() in "aeiou" else "a"
    return EXISTS_QUESTION.format(article=article, label=label)


def _assemble(bundle: Bundle, adapter: Path, out: Path, pictures: OwnPictures) -> None:
    manifest: Manifest = bundle.manifest
    weights = manifest.perceiver.weights
    own = Source(
        name=f"own pictures of {', '.join(pictures.labels)}",
        version="1",
        license="LicenseRef-own",
        url="",
        used_for="adapter",
    )
    template = BundleTemplate(
        name="own",
        version=manifest.version,
        description=f"{manifest.description} Knows {', '.join(pictures.labels)}.",
        processing=manifest.vision.processing,
        perceiver=ModelTemplate(
            context_length=manifest.perceiver.context_length, chat=manifest.perceiver.chat
        ),
        reasoner=None,
        extract=manifest.extract,
        think=manifest.think,
        direct=manifest.direct,
        sources=(*manifest.sources, own),
    )
    assemble_bundle(
        template,
        out,
        vision=bundle.path(manifest.vision.graph),
        perceiver=ModelFiles(
            weights=bundle.path(weights)
            if weights.package is None
            else PackageFile(package=weights.package, path=weights.path),
            tokenizer=bundle.path(manifest.perceiver.tokenizer),
            adapter=adapter,
        ),
    )


def open_bundle(name_or_path: str | None) -> Bundle:
    """Find a bundle by name or folder; see `edge_et.load`."""
    return load_bundle(find_bundle(name_or_path))


def _told(found: OwnScore) -> str:
    return (
        f"{found.naming.right} of {found.naming.asked} named right, "
        f"{found.existence.right} of {found.existence.asked} yes-no questions right"
    )
