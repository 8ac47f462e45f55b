"""The runtime as a subject: its own pipeline over llama.cpp or PyTorch.

Everything around the language models is the runtime's own code in either case.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import get_args

from edge_et.benchmarks.document import OpenedModel, Tokens
from edge_et.benchmarks.forced_decoding import ForcedKVCache, draw_forced_tokens
from edge_et.benchmarks.sensors import peak_memory_bytes
from edge_et.benchmarks.subject import Heard, Job
from edge_et.benchmarks.wrapped_kv_cache import WrappedModel
from edge_et.bundle import Bundle, LanguageModelSpec
from edge_et.llm import KVCache, LanguageModel, Tokenizer
from edge_et.options import DEFAULT_CACHE_BYTES, EngineName
from edge_et.pipeline import (
    ChosenModel,
    ExtractThink,
    Model,
    OpenModel,
    Settings,
    open_model,
    open_pipeline,
    open_snapshots,
)
from edge_et.results import Answer, AnswerToken, Event, ExtractionToken, Progress, ReasoningToken


class Runtime:
    """An opened bundle whose KV caches force what is written."""

    versions: Mapping[str, str] = {}

    def __init__(self, bundle: Bundle, job: Job) -> None:
        """Open a bundle as `edge_et.load` does; see `open_subject`."""
        self._bundle = bundle
        self._job = job
        self.kv_caches: list[ForcedKVCache] = []
        self._opened: list[tuple[LanguageModelSpec, LanguageModel]] = []
        work = job.work
        count = work.extraction_tokens + work.thinking_tokens + work.answer_tokens
        engine = next((name for name in get_args(EngineName) if name == job.engine), None)
        settings = Settings(threads=job.threads, engine=engine, prompt_lookup=False)
        snapshots = None
        if job.cache_dir is not None:
            snapshots = open_snapshots(Path(job.cache_dir), DEFAULT_CACHE_BYTES, settings)
        opens = _OPENS.get(job.engine) or functools.partial(
            open_model, engine=engine, snapshots=snapshots
        )

        def open_forced(bundle: Bundle, spec: LanguageModelSpec, tokenizer: Tokenizer) -> Model:
            forced = draw_forced_tokens(tokenizer, bundle.manifest.think.answer_marker, count)
            model = opens(bundle, spec, tokenizer)
            if isinstance(model, ChosenModel):
                self._opened.append((spec, model.model))

            def wrap(inner: KVCache) -> KVCache:
                self.kv_caches.append(ForcedKVCache(inner, forced))
                return self.kv_caches[-1]

            return WrappedModel(model, wrap)

        self.pipeline: ExtractThink = open_pipeline(
            bundle, settings, snapshots=snapshots, open_model=open_forced
        )

    @property
    def models(self) -> list[OpenedModel]:
        """Language models as they were opened; none where PyTorch runs them."""
        return [_describe(self._bundle, spec, model) for spec, model in self._opened]

    def ask(self, question: str, *, fresh: bool) -> Heard:
        """Answer a question; nobody is asked for a hint.

        Args:
            question: the question; where the prompt has a place for a hint, it is that too.
            fresh: whether nothing may be found in a cache.
        """
        work = self._job.work
        if fresh or not self._job.reuse:
            self.pipeline.clear()
        for kv_cache in self.kv_caches:
            kv_cache.start_over()
        times: dict[type, list[float]] = {ExtractionToken: [], ReasoningToken: [], AnswerToken: []}
        asked = perf_counter()
        event: Event | None = None
        for event in self.pipeline.stream(
            work.picture,
            question,
            hint=question if self.pipeline.manifest.extract.hint_places else None,
            max_extraction_tokens=work.extraction_tokens,
            max_thinking_tokens=work.thinking_tokens,
            max_answer_tokens=work.answer_tokens,
            temperature=0.0,
        ):
            if isinstance(event, Answer):
                break
            if isinstance(event, Progress):
                continue
            times[type(event)].append(perf_counter())
            extracted = len(times[ExtractionToken]) == work.extraction_tokens
            if isinstance(event, ExtractionToken) and extracted and not self._job.reuse:
                for kv_cache in self.kv_caches:
                    kv_cache.forget()
        answered = perf_counter()
        assert isinstance(event, Answer)
        usage = event.usage
        return Heard(
            asked=asked,
            seconds={phase: usage[phase].seconds for phase in ("image", "vision")},
            extraction=times[ExtractionToken],
            thinking=times[ReasoningToken],
            answered=answered,
            tokens=Tokens(
                image=usage["vision"].evaluated_tokens + usage["vision"].reused_tokens,
                prompt_evaluated=usage["extract"].evaluated_tokens,
                prompt_reused=usage["extract"].reused_tokens,
                extraction=len(times[ExtractionToken]),
                handover_evaluated=usage["think"].evaluated_tokens,
                handover_reused=usage["think"].reused_tokens,
                thinking=len(times[ReasoningToken]),
                answer=len(times[AnswerToken]),
            ),
        )

    def peak_memory_bytes(self) -> int:
        """Return the most resident memory that this process had so far."""
        return peak_memory_bytes()

    def close(self) -> None:
        """Close the pipeline."""
        self.pipeline.close()


def open_subject(bundle: Bundle, job: Job) -> Runtime:
    """Open a bundle; see `edge_et.benchmarks.engines.open_subject`."""
    return Runtime(bundle, job)


def _describe(bundle: Bundle, spec: LanguageModelSpec, model: LanguageModel) -> OpenedModel:
    from edge_et.benchmarks.bounds import token_bytes  # with what no program imports to answer

    files = [path for path in (model.weights, model.adapter) if path is not None]
    return OpenedModel(
        role="perceiver" if spec == bundle.manifest.perceiver else "reasoner",
        engine=model.engine.name,
        engine_version=model.engine.version,
        weights="as stored" if model.weights == bundle.path(spec.weights) else "merged Q8_0",
        file_bytes=sum(path.stat().st_size for path in files),
        token_bytes=token_bytes(model.weights, model.adapter),
    )


def _open_float32(bundle: Bundle, spec: LanguageModelSpec, tokenizer: Tokenizer) -> Model:
    from edge_et.benchmarks.torch_kv_cache import TorchModel

    return TorchModel.of(bundle, spec, tokenizer.size, "float32")


def _open_bfloat16(bundle: Bundle, spec: LanguageModelSpec, tokenizer: Tokenizer) -> Model:
    from edge_et.benchmarks.torch_kv_cache import TorchModel

    return TorchModel.of(bundle, spec, tokenizer.size, "bfloat16")


_OPENS: dict[str, OpenModel] = {
    "torch-float32": _open_float32,
    "torch-bfloat16": _open_bfloat16,
}
