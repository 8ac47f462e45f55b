"""OpenVINO GenAI's `VLMPipeline`, on a model of the bundle's dimensions with random weights.

In: what `edge_et.benchmarks.rivals.openvino_convert` wrote into the bundle's folder. The model
writes what it finds most probable; its weights make that a word. The number of tokens is fixed.
"""

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from edge_et.benchmarks.document import Tokens
from edge_et.benchmarks.rivals.conversation import Conversation, Prompt, text_tokens
from edge_et.benchmarks.rivals.openvino_files import IMAGE_TOKEN, converted_folder
from edge_et.benchmarks.sensors import peak_memory_bytes
from edge_et.benchmarks.subject import Heard, Job
from edge_et.bundle import Bundle
from edge_et.errors import BenchError
from edge_et.image import load_image
from edge_et.llm import Tokenizer
from edge_et.native_libraries import import_library

openvino = import_library("openvino")
openvino_genai = import_library("openvino_genai")
_StreamerBase: Any = openvino_genai.StreamerBase

_AS_IT_IS = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
"""Chat template for messages that hold the markup of their turns."""

_BLOCK = 32
"""Positions in a block of the KV cache; what is found again are whole blocks."""

_MARK = 32
"""Side of a square, pixels."""


class OpenVino:
    """One pipeline with its default settings, which keep the KV cache of the last prompts."""

    versions: Mapping[str, str] = {}  # all of them are packages
    models = ()

    def __init__(self, bundle: Bundle, job: Job, folder: Path) -> None:
        """Open a model; see `open_subject`.

        Args:
            bundle: what it imitates.
            job: the job.
            folder: of the converted model.

        Raises:
            BenchError: OpenVINO cannot open it.
        """
        self._job = job
        self._conversation = Conversation(bundle)
        self._tokenizer = Tokenizer(bundle.path(bundle.manifest.perceiver.tokenizer))
        self._image_tokens = bundle.manifest.vision.image_tokens_per_tile
        self._pictures = 0
        try:
            self._pipeline: Any = openvino_genai.VLMPipeline(
                str(folder), "CPU", INFERENCE_NUM_THREADS=job.threads
            )
            self._pipeline.get_tokenizer().set_chat_template(_AS_IT_IS)
        except RuntimeError as err:
            raise BenchError(f"OpenVINO GenAI: {_first_line(err)}") from err

    def ask(self, question: str, *, fresh: bool) -> Heard:
        """Answer a question.

        Args:
            question: the question.
            fresh: makes the picture another one, as the pipeline cannot be told to forget: a square
                in its middle gets a colour that it did not have before.

        Raises:
            BenchError: OpenVINO refuses the work.
        """
        self._pictures += fresh
        work = self._job.work
        asked = perf_counter()
        pixels = np.array(load_image(work.picture))
        top, left = ((side - _MARK) // 2 for side in pixels.shape[:2])
        pixels[max(top, 0) : top + _MARK, max(left, 0) : left + _MARK] = self._pictures % 256
        picture = openvino.Tensor(pixels[None])
        image_s = perf_counter() - asked
        prompt = self._conversation.extract(question)
        history = openvino_genai.ChatHistory()
        history.append({"role": "user", "content": prompt.with_picture(IMAGE_TOKEN)})
        extracted, extraction = self._write(history, work.extraction_tokens, [picture])
        text = extracted.texts[0]
        behind = self._conversation.think(question, text).text
        if self._conversation.goes_on:
            history.append({"role": "assistant", "content": text})
            behind = behind.removeprefix(prompt.text + text)
        else:
            history = openvino_genai.ChatHistory()
        history.append({"role": "user", "content": behind})
        answered, times = self._write(history, work.thinking_tokens + work.answer_tokens, [])
        end = perf_counter()
        read = extracted.perf_metrics.get_num_input_tokens()
        read_again = answered.perf_metrics.get_num_input_tokens()
        before = text_tokens(Prompt(None, prompt.before or ""), self._tokenizer)
        known = 0 if fresh else _whole_blocks(before + self._image_tokens)
        held = _whole_blocks(read + len(extraction) - 1) if self._conversation.goes_on else 0
        embedding_us = extracted.perf_metrics.vlm_raw_metrics.prepare_embeddings_durations[0]
        return Heard(
            asked=asked,
            seconds={"image": image_s, "vision": embedding_us / 1e6},
            extraction=extraction,
            thinking=times[: work.thinking_tokens],
            answered=end,
            tokens=Tokens(
                image=self._image_tokens,
                prompt_evaluated=read - known,
                prompt_reused=known,
                extraction=len(extraction),
                handover_evaluated=read_again - held,
                handover_reused=held,
                thinking=len(times[: work.thinking_tokens]),
                answer=len(times[work.thinking_tokens :]),
            ),
        )

    def peak_memory_bytes(self) -> int:
        """Return the most resident memory that this process had so far."""
        return peak_memory_bytes()

    def close(self) -> None:
        """Free the models."""
        self._pipeline = None

    def _write(self, history: Any, count: int, pictures: list[Any]) -> tuple[Any, list[float]]:
        """Go on with a conversation; return the result, and when each token came.

        Raises:
            BenchError: OpenVINO refuses the work.
        """
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = config.min_new_tokens = count
        config.ignore_eos = True
        config.do_sample = False
        clock = _Clock()
        options = {"images": pictures} if pictures else {}
        try:
            result = self._pipeline.generate(
                history, generation_config=config, streamer=clock, **options
            )
        except RuntimeError as err:
            raise BenchError(f"OpenVINO GenAI: {_first_line(err)}") from err
        return result, clock.times


class _Clock(_StreamerBase):  # type: ignore[misc]  # may be absent
    """Hears when each token comes."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def write(self, token: int | list[int]) -> Any:
        """Note the time of one token, or of several that come together."""
        self.times += [perf_counter()] * (1 if isinstance(token, int) else len(token))
        return openvino_genai.StreamingStatus.RUNNING

    def end(self) -> None:
        """Do nothing: the last token was told by `write`."""


def open_subject(bundle: Bundle, job: Job) -> OpenVino:
    """Open a converted model; see `edge_et.benchmarks.engines.open_subject`.

    Raises:
        BenchError: there is none, or OpenVINO cannot open it.
    """
    folder = converted_folder(bundle.folder, job.engine.removeprefix("openvino-"))
    if not folder.is_dir():
        raise BenchError(
            f"{bundle.manifest.name} has no {folder.name} in its folder; synthetic bundles of one "
            "language model get it from edge_et.benchmarks.rivals.openvino_convert"
        )
    return OpenVino(bundle, job, folder)


def _whole_blocks(positions: int) -> int:
    return positions // _BLOCK * _BLOCK


def _first_line(err: RuntimeError) -> str:
    return str(err).strip().partition("\n")[0]
