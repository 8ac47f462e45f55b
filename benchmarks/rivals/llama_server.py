"""llama-server, asked over HTTP: its own process, its own prompt cache.

In: a bundle and the program. Out: a `Subject`; a separate reasoner gets a second server. A bias
forces one word again and again. So the server finds in its cache what it wrote, when that comes
back as text.
"""

import base64
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

from edge_et.benchmarks.document import Tokens
from edge_et.benchmarks.rivals.conversation import (
    Conversation,
    Prompt,
    find_mmproj,
    forced_tokens_by_stage,
    text_tokens,
)
from edge_et.benchmarks.rivals.llama_server_process import MARKER, Completion, Server
from edge_et.benchmarks.subject import Heard, Job
from edge_et.bundle import Bundle, LanguageModelSpec
from edge_et.errors import BenchError
from edge_et.llm import Tokenizer

_BIAS = 1e6


class LlamaServer:
    """The servers of a bundle."""

    models = ()

    def __init__(self, bundle: Bundle, job: Job) -> None:
        """Start them; see `open_subject`."""
        self._work = job.work
        self._conversation = Conversation(bundle)
        program = _find_program(job)
        self.versions: Mapping[str, str] = {"llama-server": _version_of(program)}
        perceiver, thinking_model = bundle.manifest.perceiver, self._conversation.thinking_model
        self._tokenizer = Tokenizer(bundle.path(perceiver.tokenizer))
        self._word = _word_of(bundle, perceiver, job)
        self._reasoner_word = _word_of(bundle, thinking_model, job)
        picture = Path(job.work.picture).read_bytes()
        self._picture = base64.b64encode(picture).decode()
        # A conversation of its own would drive the picture out of the only slot.
        has_own = bundle.manifest.reasoner is not None
        slots = 1 if self._conversation.goes_on or has_own else 2
        self._reasoner_slot = slots - 1
        with ExitStack() as resources:
            tower = ["--mmproj", str(find_mmproj(bundle))]
            arguments = [*_arguments(bundle, perceiver, job, slots), *tower]
            self._server = resources.enter_context(Server(program, arguments))
            self._reasoner = self._server
            if has_own:
                arguments = _arguments(bundle, thinking_model, job, 1)
                self._reasoner = resources.enter_context(Server(program, arguments))
            self._resources = resources.pop_all()

    def ask(self, question: str, *, fresh: bool) -> Heard:
        """Answer a question.

        Args:
            question: the question.
            fresh: whether the server is told to use nothing of its cache for stage 1, and for the
                first turn of a conversation of its own.
        """
        work = self._work
        first = self._conversation.extract(question)
        asked = perf_counter()
        extraction = self._write(
            self._server, first, self._word, work.extraction_tokens, keep=not fresh
        )
        text = self._tokenizer.decode([self._word] * work.extraction_tokens)
        rest = self._write(
            self._reasoner,
            self._conversation.think(question, text),
            self._reasoner_word,
            work.thinking_tokens + work.answer_tokens,
            keep=self._conversation.goes_on or not fresh,
            slot=self._reasoner_slot,
        )
        answered = perf_counter()
        thinking, answer = rest.times[: work.thinking_tokens], rest.times[work.thinking_tokens :]
        prompt = extraction.read + extraction.reused
        return Heard(
            asked=asked,
            seconds={},
            extraction=extraction.times,
            thinking=thinking,
            answered=answered,
            tokens=Tokens(
                image=prompt - text_tokens(first, self._tokenizer),
                prompt_evaluated=extraction.read,
                prompt_reused=extraction.reused,
                extraction=len(extraction.times),
                handover_evaluated=rest.read,
                handover_reused=rest.reused,
                thinking=len(thinking),
                answer=len(answer),
            ),
        )

    def peak_memory_bytes(self) -> int:
        """Return the most resident memory that the servers had so far, added up."""
        servers = {self._server, self._reasoner}
        return sum(server.peak_memory_bytes() for server in servers)

    def close(self) -> None:
        """End the servers."""
        self._resources.close()

    def _write(
        self, server: Server, prompt: Prompt, word: int, count: int, *, keep: bool, slot: int = 0
    ) -> Completion:
        sent: dict[str, Any] = {"prompt_string": prompt.with_picture(MARKER)}
        if prompt.before is not None:
            sent["multimodal_data"] = [self._picture]
        return server.complete(
            sent,
            n_predict=count,
            cache_prompt=keep,
            id_slot=slot,
            temperature=0.0,
            top_k=1,
            samplers=["top_k"],
            ignore_eos=True,
            logit_bias=[[word, _BIAS]],
        )


def open_subject(bundle: Bundle, job: Job) -> LlamaServer:
    """Start servers for a bundle; see `edge_et.benchmarks.engines.open_subject`."""
    return LlamaServer(bundle, job)


def _find_program(job: Job) -> Path:
    """Return the program.

    Raises:
        BenchError: there is none.
    """
    if job.llama_server is None:
        raise BenchError(
            "no llama-server was given and none is on PATH; docs/benchmarks.md tells how to build "
            "the one that belongs to llama-cpp-python"
        )
    return Path(job.llama_server)


def _version_of(program: Path) -> str:
    """Return what the program says about itself.

    Raises:
        BenchError: it cannot be started.
    """
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as err:
        raise BenchError(f"{program} cannot be started: {err}") from err
    told = (done.stdout + done.stderr).partition("version: ")[2].partition("\n")[0]
    return told or "unknown"


def _word_of(bundle: Bundle, spec: LanguageModelSpec, job: Job) -> int:
    """Return a token that, written again and again, becomes the same tokens when it is read.

    Raises:
        BenchError: the tokenizer has none.
    """
    tokenizer = Tokenizer(bundle.path(spec.tokenizer))
    for tokens in forced_tokens_by_stage(bundle, tokenizer, job):
        for token in tokens:
            if tokenizer.encode(tokenizer.decode([token] * 3)) == [token] * 3:
                return token
    raise BenchError("no forced token is read as the token that it was written as")


def _arguments(bundle: Bundle, spec: LanguageModelSpec, job: Job, slots: int) -> list[str]:
    """Return the settings of a server; what is not named is left as it is by default."""
    adapter = [] if spec.adapter is None else ["--lora", str(bundle.path(spec.adapter))]
    return [
        "--model",
        str(bundle.path(spec.weights)),
        *adapter,
        "--threads",
        str(job.threads),
        "--ctx-size",
        str(spec.context_length * slots),
        "--parallel",
        str(slots),
        "--cache-ram",  # a second cache, of conversations that lost their slot
        "0",
        "--no-warmup",
        "--no-ui",
        "--offline",
    ]
