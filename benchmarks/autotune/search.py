"""The search of `edge-et autotune`: try one setting after the other, keep the fastest right one.

In: a bundle and pictures. Out: a device profile, and every trial with its figures. A setting that
changes the outputs too much is refused, however fast it is. How much it changes them is measured on
the bundle's own dialogues (`edge_et.benchmarks.autotune.dialogue`).
"""

import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import msgspec

from edge_et.benchmarks.autotune.dialogue import (
    QUESTIONS,
    Dialogue,
    Role,
    compare,
    record,
    reuse_error,
)
from edge_et.benchmarks.autotune.weights import FORMATS, convert
from edge_et.bundle import Bundle, FileRef, LanguageModelSpec, file_ref
from edge_et.errors import BenchError, DecodeError
from edge_et.export.numeric_comparison import LogitsDifference
from edge_et.export.steps import Progress
from edge_et.image import ImageSource
from edge_et.llm import LanguageModel, LlamaKVCache, TokenSegment, count_positions
from edge_et.pipeline import (
    PROFILE_NAME,
    DeviceProfile,
    ModelSpeed,
    Settings,
    device_name,
    library_versions,
    manifest_sha256,
    profile_folder,
)
from edge_et.store import atomic_write

MAX_MEAN_KL = 0.03
MIN_SAME_TOP = 0.97
"""What a setting may change: the mean divergence of a next token's distribution from the bundle's
own, nats, and the share of positions where the same token stays the most probable."""

LEAST_GAIN = 0.03
"""Share of the time that a setting has to save; below it noise decides."""

_REPEATS = 3
_REUSED_TOKENS = 160
_TIMED_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast a model is with some settings.

    Attributes:
        prefill_per_s: positions of a prompt read in a second.
        decode_per_s: tokens written in a second.
        answer_s: reading and writing as much as one answer takes, seconds.
    """

    prefill_per_s: float
    decode_per_s: float
    answer_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One setting that was tried.

    Attributes:
        role: whose model.
        setting: what was tried.
        speed: None where it failed before it could be measured.
        difference: from the bundle's own logits; None for the bundle's own settings.
        verdict: ``taken``, or why it was not.
    """

    role: Role
    setting: str
    speed: Speed | None
    difference: LogitsDifference | None
    verdict: str


@dataclass(frozen=True, slots=True)
class _Choice:
    """Weights and settings of one model."""

    weights: Path
    adapter: Path | None
    settings: Settings


def autotune(bundle: Bundle, pictures: Sequence[ImageSource], progress: Progress) -> list[Trial]:
    """Find the settings for this machine, and write the profile that `edge_et.load` uses.

    Args:
        bundle: as `load_bundle` gave it.
        pictures: to ask about, at least one.
        progress: told about the progress.

    Returns:
        What was tried, in order.

    Raises:
        EdgeETError: the bundle cannot be opened, or the profile not be written.
    """
    folder = profile_folder(bundle)
    settings = Settings(prompt_lookup=False)
    manifest = bundle.manifest
    progress("what the bundle itself writes", 0, 1)
    dialogues = record(bundle, settings, pictures)
    answers = len(pictures) * len(QUESTIONS)
    models: list[tuple[Role, LanguageModelSpec]] = [("perceiver", manifest.perceiver)]
    if manifest.reasoner is not None:
        models.append(("reasoner", manifest.reasoner))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".trial-") as name:
            chosen: dict[Role, FileRef | None] = {}
            speeds: dict[Role, ModelSpeed | None] = {}
            trials: list[Trial] = []
            for role, spec in models:
                search = _Search(role, spec, dialogues[role], answers, Path(name), progress)
                best = _Choice(
                    bundle.path(spec.weights),
                    None if spec.adapter is None else bundle.path(spec.adapter),
                    settings,
                )
                best = search.weights(best)
                # Both models are opened with the same settings; the first one decides.
                if role == "perceiver":
                    best = search.threads(search.attention(best))
                    settings = best.settings
                trials += search.trials
                speeds[role] = search.speed
                chosen[role] = _keep(best.weights, folder, Path(name))
            profile = DeviceProfile(
                bundle_sha256=manifest_sha256(bundle),
                device=device_name(),
                versions=library_versions(),
                threads=settings.threads,
                kv_type=settings.kv_type,
                flash_attention=settings.flash_attention,
                perceiver=chosen["perceiver"],
                reasoner=chosen.get("reasoner"),
                perceiver_speed=speeds["perceiver"],
                reasoner_speed=speeds.get("reasoner"),
            )
            _write(profile, folder)
    except OSError as err:
        raise BenchError(f"{folder} cannot be written: {err.strerror or err}") from err
    return trials


class _Search:
    """Trials of one model, the best one so far in hand.

    Attributes:
        trials: in their order.
        speed: with the best settings so far; None: nothing could be measured.
    """

    def __init__(
        self,
        role: Role,
        spec: LanguageModelSpec,
        dialogues: list[Dialogue],
        answers: int,
        folder: Path,
        progress: Progress,
    ) -> None:
        self.trials: list[Trial] = []
        self.speed: ModelSpeed | None = None
        self._role: Role = role
        self._spec = spec
        self._dialogues = dialogues
        self._read = max(count_positions(dialogue.prompt) for dialogue in dialogues)
        self._written = max(1, sum(len(d.written) for d in dialogues) // answers)
        self._folder = folder
        self._progress = progress
        self._best_s = float("inf")

    def weights(self, own: _Choice) -> _Choice:
        """Try the bundle's own weights, then other formats of them."""
        best = own
        self._try("weights as they are", own, compares=False)
        for index, quantization in enumerate(FORMATS):
            self._progress(f"{self._role}: weights in {quantization}", index, len(FORMATS))
            path = self._folder / f"{self._role}-{quantization.lower()}.gguf"
            convert(own.weights, own.adapter, path, quantization)
            choice = _Choice(path, None, own.settings)
            if self._try(f"weights in {quantization}", choice):
                best, worse = choice, best
            else:
                worse = choice
            if worse.weights != own.weights:
                worse.weights.unlink()
        return best

    def attention(self, best: _Choice) -> _Choice:
        """Try flash attention, and the KV type that needs it."""
        settings = best.settings
        for label, tried in (
            ("flash attention", replace(settings, flash_attention=True)),
            ("KV cache in q8_0", replace(settings, flash_attention=True, kv_type="q8_0")),
        ):
            self._progress(f"{self._role}: {label}", 0, 1)
            choice = replace(best, settings=tried)
            if self._try(label, choice):
                best = choice
        return best

    def threads(self, best: _Choice) -> _Choice:
        """Try fewer threads: they do not change what is computed."""
        most = best.settings.threads
        for count in sorted({most - 1, most // 2} - {0}, reverse=True):
            self._progress(f"{self._role}: {count} threads", 0, 1)
            choice = replace(best, settings=replace(best.settings, threads=count))
            if self._try(f"{count} of {most} threads", choice, compares=False):
                best = choice
        return best

    def _try(self, setting: str, choice: _Choice, *, compares: bool = True) -> bool:
        """Measure one setting; return whether it is the best so far."""
        speed = difference = verdict = None
        try:
            model = LanguageModel(
                choice.weights,
                self._spec,
                adapter=choice.adapter,
                token_count=len(self._dialogues[0].logits[0]),
            )
            with closing(model):
                kv_cache = model.new_kv_cache(choice.settings.kv_cache(self._spec.context_length))
                if compares:
                    difference = compare(kv_cache, self._dialogues)
                    verdict = self._objection(kv_cache, difference)
                if verdict is None:
                    speed = self._speed(kv_cache)
        except DecodeError as err:
            verdict = str(err)
        if verdict is None and speed is not None:
            if speed.answer_s > (1 - LEAST_GAIN) * self._best_s:
                verdict = "not faster"
            else:
                self._best_s = speed.answer_s
                self.speed = ModelSpeed(
                    prompt_tokens=self._read,
                    prompt_seconds=self._read / speed.prefill_per_s,
                    token_seconds=1 / speed.decode_per_s,
                )
        trial = Trial(
            role=self._role,
            setting=setting,
            speed=speed,
            difference=difference,
            verdict=verdict or "taken",
        )
        self.trials.append(trial)
        return verdict is None

    def _objection(self, kv_cache: LlamaKVCache, difference: LogitsDifference) -> str | None:
        """Say why outputs are not right any more; None: they are."""
        if not difference.mean_kl <= MAX_MEAN_KL:
            return f"changes the outputs: mean KL {difference.mean_kl:.3g} nats"
        if difference.same_top < MIN_SAME_TOP:
            return f"changes the outputs: {1 - difference.same_top:.1%} of the tokens"
        if error := reuse_error(kv_cache, self._ids(_REUSED_TOKENS)):
            return f"changes them where a prompt was cached: a logit by {error:.2g}"
        return None

    def _ids(self, count: int) -> list[int]:
        """Return tokens that the model wrote, over and over."""
        written = [token for dialogue in self._dialogues for token in dialogue.written] or [0]
        return (written * count)[:count]

    def _speed(self, kv_cache: LlamaKVCache) -> Speed:
        prompt = TokenSegment(tuple(self._ids(self._read)))
        prefill, decode = [], []
        for _ in range(_REPEATS):
            kv_cache.clear()
            start = perf_counter()
            kv_cache.prefill([prompt])
            prefill.append(perf_counter() - start)
            for token in self._ids(_TIMED_TOKENS):
                start = perf_counter()
                kv_cache.decode(token)
                decode.append(perf_counter() - start)
        # Whatever else runs only makes it slower.
        read_s, step_s = min(prefill), sorted(decode)[len(decode) // 4]
        return Speed(
            prefill_per_s=self._read / read_s,
            decode_per_s=1 / step_s,
            answer_s=read_s + self._written * step_s,
        )


def _keep(weights: Path, folder: Path, trial: Path) -> FileRef | None:
    """Put what was made beside the profile; the bundle's own weights stay where they are."""
    if weights.parent != trial:
        return None
    path = folder / weights.name
    weights.replace(path)
    return file_ref(path)


def _write(profile: DeviceProfile, folder: Path) -> None:
    """Write a profile, and drop the files of the one before."""
    with atomic_write(folder / PROFILE_NAME) as partial:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(profile), indent=2) + b"\n")
    kept = {ref.path for ref in (profile.perceiver, profile.reasoner) if ref is not None}
    for path in folder.glob("*.gguf"):
        if path.name not in kept:
            path.unlink(missing_ok=True)
