"""Which engine opens a language model, and which form of its weights: by what comes out.

In: a model of a bundle, and the engines that are installed. Out: an engine and the files to open.
An engine other than the reference is believed when its logits on a prompt of the bundle are those
of numpy, token by token and in one batch. It is asked once a machine. llama.cpp is the reference
and believed as it is; merged weights are compared with the original ones for it, too.

What takes seconds is done at once only where nothing else could answer. Where llama.cpp can, it
does, and the rest is work for later, of use to the next program.
"""

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_et.bundle import Bundle, LanguageModelSpec
from edge_et.errors import DecodeError, EngineError, ModelFileError
from edge_et.llm import Engine, KVCacheSettings, Tokenizer, read_shape
from edge_et.options import EngineName, KvType
from edge_et.pipeline.engine_judgement import case_of, judge, refusal
from edge_et.pipeline.engine_probe import Probe, probe_ids, probe_logits, probe_settings
from edge_et.pipeline.prepared_weights import Case, PreparedWeights, merged_spec
from edge_et.store import PreparedFile
from edge_et.weights import Step, Unsupported, merged_bytes, no_step

REFERENCE: Final = "llama"

MAX_MERGED_BYTES: Final = 512 * 2**20
"""Larger models keep their form: making another takes long, and fills disk and memory."""

_MOST_EXPANSION = 4  # a file in float32 is this much larger than in Q8_0, about

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChoice:
    """What is opened.

    Attributes:
        engine: by which engine.
        weights: GGUF.
        adapter: LoRA; None: there is none, or it is merged.
        spec: what the manifest says; with the files that are opened, which name snapshots.
        file: merged weights, to be closed after the model; None: the bundle's own.
        later: what the next program will be faster for; None: nothing.
        refused: why engines that go before this one were not taken.
    """

    engine: Engine
    weights: Path
    adapter: Path | None
    spec: LanguageModelSpec
    file: PreparedFile | None = None
    later: Callable[[Step], object] | None = None
    refused: tuple[str, ...] = ()


def choose(
    bundle: Bundle,
    spec: LanguageModelSpec,
    *,
    engines: Sequence[Engine],
    asked: EngineName | None,
    converts: bool,
    prepared: PreparedWeights,
    makes: bool = True,
    kv_type: KvType = "f16",
    flash_attention: bool = False,
    tokenizer: Tokenizer | None = None,
    probe: Probe | None = None,
) -> EngineChoice:
    """Choose what opens a model.

    Args:
        bundle: a bundle.
        spec: one of its models.
        engines: those that are installed, at least one.
        asked: the one that the caller wants; None: the fastest that is right.
        converts: whether weights may be used in another form.
        prepared: what was made before, and where it is kept.
        makes: whether to make at once what nothing could answer without. Otherwise `later` does,
            and how the model is opened is not known before.
        kv_type: number type of the model's KV caches.
        flash_attention: whether attention never makes its whole matrix in them.
        tokenizer: the model's; None: it is opened if need be.
        probe: computes logits; None: `probe_logits`.

    Raises:
        EngineError: the engine that the caller wants, or the only one, is not right for this model,
            or needs another CPU, or has no such KV caches; or it is not installed.
        ModelFileError: a file is damaged, or cannot be opened.
        FileHashError: likewise.
        UnreadableFileError: a file cannot be read.
        DecodeError: the model cannot have such KV caches.
    """
    settings = probe_settings(kv_type, flash_attention=flash_attention)
    chooser = _Chooser(
        bundle,
        spec,
        engines,
        asked,
        converts,
        prepared,
        makes,
        settings,
        tokenizer,
        probe or probe_logits,
    )
    return chooser.choose()


class _Chooser:
    """The choice for one model."""

    def __init__(
        self,
        bundle: Bundle,
        spec: LanguageModelSpec,
        engines: Sequence[Engine],
        asked: EngineName | None,
        converts: bool,
        prepared: PreparedWeights,
        makes: bool,
        settings: KVCacheSettings,
        tokenizer: Tokenizer | None,
        probe: Probe,
    ) -> None:
        self._bundle, self._spec, self._converts = bundle, spec, converts
        self._engines = {engine.name: engine for engine in engines}
        self._asked, self._prepared, self._makes = asked, prepared, makes
        self._settings = settings
        self._tokenizer, self._probe = tokenizer, probe
        self._weights = bundle.path(spec.weights)
        self._adapter = None if spec.adapter is None else bundle.path(spec.adapter)
        self._refused: list[str] = []
        self._lacks_reference = self._lacks_merged = False

    def choose(self) -> EngineChoice:
        """See `edge_et.pipeline.engine_choice.choose`."""
        usable = [name for name in self._engines if self._asked in (None, name)]
        if not usable:
            raise EngineError.not_installed(self._asked, self._engines)
        usable = self._with_caches(self._runnable(usable))
        reference = self._engines[REFERENCE] if REFERENCE in usable else None
        now = reference is None and self._makes
        for name in usable:
            for merged in self._forms() if name != REFERENCE else ():
                choice = self._opened(self._engines[name], merged, now=now)
                if choice is not None:
                    return choice
        lacks = self._lacks_reference or self._lacks_merged
        if reference is None and lacks:
            return self._choice(self._engines[usable[0]], later=self._prepare)
        if reference is None:
            raise self._refusal(usable[0])
        if self._refused:
            reasons = "; ".join(self._refused)
            logger.info("%s is opened by llama.cpp: %s", self._weights.name, reasons)
        if self._adapter is not None and self._may_merge:
            before = len(self._refused)
            choice = self._opened(reference, merged=True, now=False)
            if choice is not None:
                return choice
            for reason in self._refused[before:]:
                logger.info("%s stays as it is: %s", self._weights.name, reason)
            del self._refused[before:]  # no other engine's
        lacks = self._lacks_reference or self._lacks_merged
        return self._choice(
            reference, later=self._prepare if lacks and self._prepared.keeps else None
        )

    def _with_caches(self, names: Sequence[EngineName]) -> list[EngineName]:
        """Return those that have KV caches of the number type that is asked for.

        Raises:
            EngineError: none has.
            DecodeError: the model can have none.
        """
        kv_type = self._settings.kv_type
        found = [name for name in names if kv_type in self._engines[name].kv_types]
        if not found:
            raise self._engines[names[0]].has_no(kv_type)
        if kv_type != "f16":  # which every model can have
            read_shape(self._weights).check_blocks(kv_type)
        self._refused += [
            f"{name} has no KV caches in {kv_type}" for name in names if name not in found
        ]
        return found

    def _runnable(self, names: list[EngineName]) -> list[EngineName]:
        """Return those of some engines that this CPU can run, at least one."""
        runnable = []
        for name in names:
            if missing := self._engines[name].missing:
                lacking = EngineError.lacking(name, missing)
                self._refused.append(f"{name} needs {', '.join(missing)}, which this CPU lacks")
            else:
                runnable.append(name)
        if not runnable:
            raise lacking
        return runnable

    def _forms(self) -> Iterator[bool]:
        """Yield whether weights are merged, the better form first.

        A LoRA that is applied at run time is slower than any other form.
        """
        if self._adapter is not None:
            yield self._may_merge
        else:
            yield False
            if self._may_merge:
                yield True

    def _opened(self, engine: Engine, merged: bool, *, now: bool) -> EngineChoice | None:
        """Return a choice that is right, or None; with `now`, make what that takes."""
        case = case_of(engine, self._spec, self._settings, merged=merged)
        if self._adapter is not None and not merged and not engine.applies_adapters:
            self._refused.append(f"{case}: it computes wrongly with an adapter beside weights")
            return None
        verdict = self._prepared.find_verdict(case)
        reference = None if verdict is not None else self._reference(now)
        if isinstance(reference, Unsupported):
            self._refused.append(f"nobody can tell here what is right for {reference.reason}")
            return None
        if verdict is None and reference is None:
            return None
        if verdict is not None and not verdict.is_accepted:
            self._refused.append(refusal(verdict))
            return None
        with ExitStack() as held:
            file = self._merged(now) if merged else None
            if file is not None:
                held.callback(file.close)
            elif merged:
                return None
            choice = self._choice(engine, file)
            if reference is not None and (reason := self._fault(case, choice, reference)):
                self._refused.append(reason)
                return None
            held.pop_all()
        return choice

    def _choice(
        self,
        engine: Engine,
        file: PreparedFile | None = None,
        later: Callable[[Step], object] | None = None,
    ) -> EngineChoice:
        if file is None:
            return EngineChoice(
                engine=engine,
                weights=self._weights,
                adapter=self._adapter,
                spec=self._spec,
                later=later,
                refused=tuple(self._refused),
            )
        return EngineChoice(
            engine=engine,
            weights=file.path,
            adapter=None,
            spec=merged_spec(self._spec, file),
            file=file,
            refused=tuple(self._refused),
        )

    @functools.cached_property
    def _may_merge(self) -> bool:
        if not self._converts or self._spec.weights.size_bytes > _MOST_EXPANSION * MAX_MERGED_BYTES:
            return False
        return merged_bytes(self._weights) <= MAX_MERGED_BYTES

    @functools.cached_property
    def _ids(self) -> NDArray[np.int32]:
        return probe_ids(self._bundle.manifest, self._spec, self._known_tokens)

    @functools.cached_property
    def _known_tokens(self) -> Tokenizer:
        return self._tokenizer or Tokenizer(self._bundle.path(self._spec.tokenizer))

    def _reference(self, now: bool) -> NDArray[np.floating] | Unsupported | None:
        found = self._prepared.find_reference(self._spec, self._ids)
        if found is None and now:
            logger.info("computing what %s should write, once", self._weights.name)
            return self._new_reference(no_step)
        self._lacks_reference |= found is None
        return found

    def _new_reference(self, step: Step) -> NDArray[np.floating] | Unsupported:
        self._verify()
        return self._prepared.make_reference(
            self._spec, self._weights, self._adapter, self._ids, step
        )

    def _merged(self, now: bool) -> PreparedFile | None:
        found = self._prepared.find_merged(self._spec)
        if found is None and now:
            logger.info("converting %s to a form that is faster here, once", self._weights.name)
            try:
                return self._new_merged(no_step, waits=True)
            except OSError as err:
                raise ModelFileError(
                    self._weights, f"there is no place to convert it: {err}"
                ) from err
        self._lacks_merged |= found is None
        return found

    def _new_merged(self, step: Step, *, waits: bool) -> PreparedFile | None:
        self._verify()
        return self._prepared.make_merged(
            self._spec, self._weights, self._adapter, step, waits=waits
        )

    def _verify(self) -> None:
        """Hash the files that loading did not: what is made of them will not be compared again."""
        specs = (self._spec.weights, self._spec.adapter)
        files = tuple(file for file in self._bundle.files if file.ref in specs)
        replace(self._bundle, files=files).verify()

    def _prepare(self, step: Step) -> None:
        """Make what was lacking, for the next program."""
        if self._lacks_reference:
            found = self._new_reference(step)
            if isinstance(found, Unsupported):
                return
        wants = self._adapter is not None and self._may_merge
        if (self._lacks_merged or wants) and (file := self._new_merged(step, waits=False)):
            file.close()

    def _fault(self, case: Case, choice: EngineChoice, reference: NDArray[np.floating]) -> str:
        """Say why a choice is not right; empty: it is. What was compared is kept."""
        try:
            single, batch = self._probe(
                choice.engine,
                choice.weights,
                choice.adapter,
                choice.spec,
                self._ids,
                self._settings,
            )
        except (EngineError, ModelFileError, DecodeError) as err:
            return f"{case}: {err}"  # which the next load may be spared
        known = np.s_[:, : self._known_tokens.size]  # the rest is padding
        verdict = judge(case, reference[known], single[known], batch[known])
        self._prepared.keep_verdict(verdict)
        return "" if verdict.is_accepted else refusal(verdict)

    def _refusal(self, name: EngineName) -> EngineError:
        advice = [f"pip install 'edge-et[{REFERENCE}]', which compiles llama.cpp for minutes"]
        if REFERENCE in self._engines:
            advice = [f"load the bundle with engine={REFERENCE!r}"]
        if not self._converts:
            advice.append("load it with convert_weights=True, without --no-convert-weights")
        reason = (
            f"the engine {name!r} cannot be used for {self._weights}: {'; '.join(self._refused)}"
        )
        return EngineError(name, f"{reason}: {', or '.join(advice)}")
