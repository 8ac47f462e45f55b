"""llama.cpp's own multimodal path, through the chat handler of llama-cpp-python.

`MTMDChatHandler` runs the tower in llama.cpp and empties the KV cache in every call. A logits
processor forces what is written.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_et.benchmarks.document import Tokens
from edge_et.benchmarks.rivals.conversation import (
    Conversation,
    Prompt,
    find_mmproj,
    forced_tokens_by_stage,
    text_tokens,
)
from edge_et.benchmarks.sensors import peak_memory_bytes
from edge_et.benchmarks.subject import Heard, Job
from edge_et.bundle import Bundle, LanguageModelSpec
from edge_et.errors import BenchError
from edge_et.llm import Tokenizer, lays_out_weights
from edge_et.native_libraries import import_library

library = import_library("llama_cpp")
bindings = import_library("llama_cpp.llama_cpp")
_MTMDChatHandler: Any = import_library("llama_cpp.llama_chat_format").MTMDChatHandler

_AS_IT_IS = "{% for part in messages[0].content %}{{ part.text }}{% endfor %}"
"""Chat template of a message that holds the whole conversation."""

_GREEDY: dict[str, Any] = {"temperature": 0.0, "repeat_penalty": 1.0, "stream": True}


class Mtmd:
    """One `Llama` with a chat handler, and one for a reasoner of its own."""

    versions: Mapping[str, str] = {}  # llama-cpp-python is a package
    models = ()

    def __init__(self, bundle: Bundle, job: Job) -> None:
        """Open a bundle; see `open_subject`."""
        self._job = job
        self._conversation = Conversation(bundle)
        perceiver = bundle.manifest.perceiver
        self._tokenizer = Tokenizer(bundle.path(perceiver.tokenizer))
        self._extraction, _ = forced_tokens_by_stage(bundle, self._tokenizer, job)
        thinking_model = Tokenizer(bundle.path(self._conversation.thinking_model.tokenizer))
        _, self._rest = forced_tokens_by_stage(bundle, thinking_model, job)
        self._picture = Path(job.work.picture).resolve().as_uri()
        with ExitStack() as resources:
            handler = _Handler(str(find_mmproj(bundle)), verbose=False, use_gpu=False)
            self._llama = _open(bundle, perceiver, job.threads, resources, chat_handler=handler)
            handler.load_tower(self._llama)
            self._reasoner = self._llama
            if bundle.manifest.reasoner is not None:
                self._reasoner = _open(bundle, bundle.manifest.reasoner, job.threads, resources)
            self._resources = resources.pop_all()

    def ask(self, question: str, *, fresh: bool) -> Heard:
        """Answer a question.

        Args:
            question: the question.
            fresh: makes no difference to what the handler does; a reasoner of its own forgets.
        """
        if fresh:
            self._reasoner.reset()
        asked = perf_counter()
        prompt = self._conversation.extract(question)
        extraction = list(self._write(self._llama, prompt, self._extraction))
        read = self._llama.n_tokens + 1 - len(extraction)  # the last one is not evaluated
        image = read - text_tokens(prompt, self._tokenizer)
        prompt = self._conversation.think(question, self._tokenizer.decode(self._extraction))
        times = list(self._write(self._reasoner, prompt, self._rest))
        answered = perf_counter()
        count = self._job.work.thinking_tokens
        return Heard(
            asked=asked,
            seconds={},
            extraction=extraction,
            thinking=times[:count],
            answered=answered,
            tokens=Tokens(
                image=image,
                prompt_evaluated=read,
                prompt_reused=0,
                extraction=len(extraction),
                handover_evaluated=self._reasoner.n_tokens + 1 - len(times),
                handover_reused=0,
                thinking=len(times[:count]),
                answer=len(times[count:]),
            ),
        )

    def peak_memory_bytes(self) -> int:
        """Return the most resident memory that this process had so far."""
        return peak_memory_bytes()

    def close(self) -> None:
        """Free the models."""
        self._resources.close()

    def _write(self, llama: Any, prompt: Prompt, forced: list[int]) -> Iterator[float]:
        """Yield the time at which each token came.

        Raises:
            BenchError: llama-cpp-python refuses the work.
        """
        options = _GREEDY | {"max_tokens": len(forced), "logits_processor": _forcing(forced)}
        try:
            if prompt.before is None:
                for chunk in llama.create_completion(prompt.text, **options):
                    if chunk["choices"][0]["text"]:
                        yield perf_counter()
                return
            content = [
                {"type": "text", "text": prompt.before},
                {"type": "image_url", "image_url": {"url": self._picture}},
                {"type": "text", "text": prompt.text},
            ]
            messages = [{"role": "user", "content": content}]
            for chunk in llama.create_chat_completion(messages, **options):
                if chunk["choices"][0]["delta"].get("content"):
                    yield perf_counter()
        except (OSError, RuntimeError, ValueError) as err:
            raise BenchError(f"llama-cpp-python: {err}") from err


def open_subject(bundle: Bundle, job: Job) -> Mtmd:
    """Open a bundle; see `edge_et.benchmarks.engines.open_subject`."""
    return Mtmd(bundle, job)


class _Handler(_MTMDChatHandler):  # type: ignore[misc]
    """Takes the conversation as it is, where a GGUF's own template would be used."""

    def load_tower(self, llama: Any) -> None:
        """Load the tower now; otherwise it is loaded by the first question.

        Raises:
            BenchError: llama.cpp cannot load it.
        """
        try:
            self._init_mtmd_context(llama)
        except ValueError as err:
            raise BenchError(f"llama-cpp-python: {err}") from err

    def _get_chat_template(self, llama_model: Any) -> str:
        return _AS_IT_IS


def _open(
    bundle: Bundle, spec: LanguageModelSpec, threads: int, resources: ExitStack, **options: Any
) -> Any:
    """Open a model with the runtime's own context length and threads, and flash attention.

    Raises:
        BenchError: llama-cpp-python cannot open it.
    """
    try:
        with _layouts_that_work():
            llama: Any = library.Llama(
                str(bundle.path(spec.weights)),
                lora_path=None if spec.adapter is None else str(bundle.path(spec.adapter)),
                n_ctx=spec.context_length,
                n_threads=threads,
                n_threads_batch=threads,
                flash_attn=True,
                verbose=False,
                **options,
            )
    except (RuntimeError, ValueError) as err:
        raise BenchError(f"llama-cpp-python: {err}") from err
    resources.callback(llama.close)
    return llama


@contextmanager
def _layouts_that_work() -> Iterator[None]:
    """Let `Llama`, which has no option for it, lay out weights where the runtime does."""
    defaults = bindings.llama_model_default_params

    def with_layouts() -> Any:
        params = defaults()
        params.use_extra_bufts = lays_out_weights()
        return params

    bindings.llama_model_default_params = with_layouts
    try:
        yield
    finally:
        bindings.llama_model_default_params = defaults


def _forcing(forced: list[int]) -> Any:
    """Return what makes the next forced token the most probable one."""
    rest = iter(forced)

    def force(ids: NDArray[np.intc], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        logits[next(rest)] = np.finfo(np.float32).max
        return logits

    return library.LogitsProcessorList([force])
