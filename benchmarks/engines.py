"""The pipelines that are measured: edge-et's own, over one engine or another for the models.

In: a bundle. Out: a pipeline that writes by script, and its contexts. Everything around the models
is the runtime's own code in every case.
"""

import importlib
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Literal

from edge_et.benchmarks.document import Work
from edge_et.benchmarks.script import ScriptedContext, new_script
from edge_et.bundle import Bundle
from edge_et.evaluator import Evaluator
from edge_et.llm import LanguageModel
from edge_et.manifest import LanguageModelSpec
from edge_et.pipeline import ExtractThink
from edge_et.tokenizer import Tokenizer
from edge_et.vision import VisionTower
from edge_et.writing import Speaker

Engine = Literal["llama.cpp", "torch"]

LIBRARIES: dict[Engine, tuple[str, ...]] = {
    "llama.cpp": ("edge_et.loading", "onnxruntime", "llama_cpp"),
    "torch": ("edge_et.loading", "onnxruntime", "torch", "transformers"),
}
"""What a process imports before it can load anything."""

NewContext = Callable[[Bundle, LanguageModelSpec, int, int, ExitStack], Evaluator]
"""From a bundle, a model of it, tokens that the tokenizer knows, threads, and who closes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An opened bundle.

    Attributes:
        pipeline: to be closed by who opened it.
        contexts: those of its language models.
    """

    pipeline: ExtractThink
    contexts: tuple[ScriptedContext, ...]

    def forget_prompts(self) -> None:
        """Empty the KV caches, also while an answer is being written."""
        for context in self.contexts:
            context.forget()


def import_libraries(engine: Engine) -> None:
    """Import what an engine needs.

    Raises:
        ModuleNotFoundError: a package is not installed.
    """
    for name in LIBRARIES[engine]:
        importlib.import_module(name)


def open_bundle(bundle: Bundle, engine: Engine, threads: int, work: Work, *, reuse: bool) -> Opened:
    """Open a bundle as `edge_et.load` does, with contexts that write by script.

    Args:
        bundle: a bundle.
        engine: what runs its language models.
        threads: threads of tower and language models.
        work: says how much is written.
        reuse: whether a reasoner of its own reads the extraction while it is written.

    Raises:
        BundleError: a model cannot be used.
        BenchError: the engine cannot run it, or there are no words to write.
    """
    manifest = bundle.manifest
    contexts: list[ScriptedContext] = []

    def new_speaker(spec: LanguageModelSpec) -> Speaker:
        tokenizer = Tokenizer(bundle.path(spec.tokenizer))
        count = work.extraction_tokens + work.thinking_tokens + work.answer_tokens
        context = ScriptedContext(
            _NEW_CONTEXT[engine](bundle, spec, tokenizer.size, threads, resources),
            new_script(tokenizer, manifest.think.answer_marker, count),
            reads_ahead=reuse,
        )
        contexts.append(context)
        return Speaker(tokenizer=tokenizer, context=context, chat=spec.chat, stop_ids=frozenset())

    with ExitStack() as resources:
        tower = VisionTower(bundle.path(manifest.vision.graph), manifest.vision, threads)
        resources.enter_context(closing(tower))
        perceiver = new_speaker(manifest.perceiver)
        reasoner = None if manifest.reasoner is None else new_speaker(manifest.reasoner)
        pipeline = ExtractThink(
            manifest,
            tower=tower,
            perceiver=perceiver,
            reasoner=reasoner,
            bundle=bundle,
            resources=resources.pop_all(),
        )
    return Opened(pipeline=pipeline, contexts=tuple(contexts))


def _llama_context(
    bundle: Bundle, spec: LanguageModelSpec, token_count: int, threads: int, resources: ExitStack
) -> Evaluator:
    model = LanguageModel(
        bundle.path(spec.weights),
        spec,
        adapter=None if spec.adapter is None else bundle.path(spec.adapter),
        token_count=token_count,
    )
    resources.enter_context(closing(model))
    return model.new_context(spec.context_length, threads, "f16")


def _torch_context(
    bundle: Bundle, spec: LanguageModelSpec, token_count: int, threads: int, resources: ExitStack
) -> Evaluator:
    from edge_et.benchmarks.torch_context import torch_context

    return torch_context(bundle, spec, token_count, threads, resources)


_NEW_CONTEXT: dict[Engine, NewContext] = {"llama.cpp": _llama_context, "torch": _torch_context}
