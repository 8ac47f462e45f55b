"""The model `edge_et` of lmms-eval: the runtime under the community's harness.

lmms-eval finds it by the entry point of the group `lmms_eval.models`. In: requests of one picture
and a text. Out: answers. Written against lmms-eval 0.7.3.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest

from edge_et.benchmarks.quality.modes import EXTRACTION, MODES, Asking
from edge_et.deprecation import warn_renamed
from edge_et.errors import BenchError, OptionError, PromptTooLongError
from edge_et.keywords import OptionValues
from edge_et.pipeline import load

_log = logging.getLogger(__name__)


class EdgeET(lmms):  # type: ignore[misc]  # lmms-eval has no types
    """A bundle, as lmms-eval asks models."""

    is_simple = True

    def __init__(
        self,
        bundle: str | None = None,
        mode: str = "extract-think",
        threads: int | None = None,
        batch_size: object = 1,
        max_batch_size: object = None,
        device: object = None,
        way: str | None = None,
    ) -> None:
        """Load a bundle, without what was tuned to this machine.

        `--model_args bundle=DIR,mode=direct,threads=4` of lmms-eval are the first three.

        Args:
            bundle: name or folder; None: the installed mini.
            mode: how to answer, a key of `edge_et.benchmarks.quality.modes.MODES` that answers.
            threads: None: the CPUs that this process may use.
            batch_size: what lmms-eval hands to every model; one question is answered at a time.
            max_batch_size: likewise.
            device: likewise; models run on the CPU.
            way: what `mode` was called.

        Raises:
            OptionError: there is no such mode, or an argument is out of its range.
            BundleError: the bundle cannot be used.
        """
        super().__init__()
        if way is not None:
            warn_renamed("way=", "mode=")
            mode = way
        answering = [name for name in MODES if name != EXTRACTION]
        if mode not in answering:
            raise OptionError("mode", mode, f"one of {', '.join(answering)}")
        self._mode = MODES[mode]
        self._pipe = load(bundle, threads=threads, use_profile=False)
        manifest = self._pipe.manifest
        if mode == "direct" and manifest.direct is None:
            raise OptionError("mode", mode, "another one: this bundle has no prompt for it")
        spec = manifest.direct if mode == "direct" and manifest.direct else manifest.think
        self._most_answer_tokens = spec.max_answer_tokens

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """Answer requests one after another.

        A question that does not fit the bundle's context gets an empty answer, and a warning.

        Args:
            requests: each with the arguments text, generation settings, what gets its pictures,
                and where its document is.

        Raises:
            BenchError: a request has no picture, or several.
            EdgeETError: a picture cannot be used, or a model failed.
        """
        return [self._answer(*request.args) for request in requests]

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Refuse: there is one question and one answer."""
        raise NotImplementedError("edge_et answers one question at a time; it has no rounds")

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Refuse: the runtime tells no probabilities of given texts."""
        raise NotImplementedError("edge_et tells no log-likelihoods; choose a task that generates")

    def _answer(
        self,
        text: str,
        settings: dict[str, Any],
        doc_to_visual: Any,
        doc_id: int,
        task: str,
        split: str,
    ) -> GenerationResult:
        pictures = doc_to_visual(self.task_dict[task][split][doc_id])
        if len(pictures) != 1:
            raise BenchError(
                f"{task}, document {doc_id} has {len(pictures)} pictures: edge_et answers "
                "questions about one picture"
            )
        options = self._options(settings)
        try:
            image = self._pipe.encode_image(pictures[0])
            reply = self._mode(Asking(self._pipe, image, text, options))
        except PromptTooLongError as err:
            _log.warning("%s, document %s is left without an answer: %s", task, doc_id, err)
            return GenerationResult(text="")
        answer = _cut(reply.text, settings.get("until") or ())
        self.cache_hook.add_partial("generate_until", (text, settings), answer)
        return GenerationResult(text=answer, token_counts=TokenCounts(output_tokens=reply.tokens))

    def _options(self, settings: Mapping[str, Any]) -> OptionValues:
        """Return a task's settings as options; budgets of the bundle are lowered, never raised."""
        options: OptionValues = {}
        if (most := settings.get("max_new_tokens")) is not None:
            options["max_answer_tokens"] = max(1, min(int(most), self._most_answer_tokens))
        if settings.get("do_sample") is False:
            options["temperature"] = 0.0
        elif (temperature := settings.get("temperature")) is not None:
            options["temperature"] = float(temperature)
        if options.get("temperature") and settings.get("top_p") is not None:
            options["top_p"] = float(settings["top_p"])
        return options


def _cut(text: str, until: str | Sequence[str]) -> str:
    """Return what comes before the first of the texts that end an answer."""
    for end in [until] if isinstance(until, str) else until:
        text = text.partition(end)[0] if end else text
    return text.strip()


MODEL = ModelManifest(model_id="edge_et", simple_class_path=f"{__name__}.{EdgeET.__name__}")
