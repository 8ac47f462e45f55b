"""What is made once a machine for a language model: merged weights, reference logits, verdicts.

In: a model of a bundle. Out: a file with its LoRA merged, held until it is closed; logits that an
engine should give; what was found of an engine. All of it lies in one folder of the user's caches,
named by the content that it was made from. Which engine is chosen is not known here.
"""

import hashlib
import json
from math import inf
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edge_et.bundle import LanguageModelSpec
from edge_et.errors import CacheFolderError
from edge_et.options import KvType
from edge_et.store import PreparedFile, PreparedFiles, unnamed_file, user_cache
from edge_et.weights import RECIPE, Step, Unsupported, merge, merged_bytes, reference_logits

LIMIT_BYTES: Final = 2**30
"""Most bytes of the folder."""

JUDGEMENT: Final = 2
"""Counted up whenever the reference, what engines are asked, or how both are compared changes."""

_WAIT_S = 120.0  # for another process that merges; a small board takes half a minute


class Case(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a verdict is about: an engine with a model on a machine, and what decides.

    Attributes:
        engine: its name and version.
        build: of that version: see `edge_et.llm.Engine`.
        device: the processor, with its features.
        weights: SHA-256 of the bundle's file.
        adapter: SHA-256 of its LoRA; None: there is none.
        recipe: of the merged weights that were opened instead; None: the files were, as they are.
        kv_type: number type of the KV cache.
        flash_attention: whether attention never made its whole matrix.
        max_kl: largest mean KL divergence that is accepted, nats.
        max_flipped: likewise, see `edge_et.weights.Distance`.
        judgement: `JUDGEMENT`.
    """

    engine: str
    build: str
    device: str
    weights: str
    adapter: str | None
    recipe: int | None
    kv_type: KvType
    flash_attention: bool
    max_kl: float
    max_flipped: float
    judgement: int

    @property
    def key(self) -> str:
        """All of it, in short."""
        return _key("verdict", *msgspec.structs.astuple(self))

    def __str__(self) -> str:
        """Name the engine and the form of the weights."""
        form = "with the files as they are" if self.recipe is None else "with converted weights"
        return f"{self.engine} {form}"


class Verdict(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How near an engine's outputs came to the reference's.

    None stands for what is not finite.

    Attributes:
        case: what it is about.
        kl_single: mean KL divergence from the reference, token by token, nats.
        kl_batch: of all tokens in one batch.
        kl_between: of the batch from the single tokens.
        flipped: see `edge_et.weights.Distance`; the largest of the three.
    """

    case: Case
    kl_single: float | None
    kl_batch: float | None
    kl_between: float | None
    flipped: float | None

    @property
    def kl(self) -> float:
        """The largest of the three divergences."""
        numbers = (self.kl_single, self.kl_batch, self.kl_between)
        return max(inf if number is None else number for number in numbers)

    @property
    def most_flipped(self) -> float:
        """The same as `flipped`, infinite for None."""
        return inf if self.flipped is None else self.flipped

    @property
    def is_accepted(self) -> bool:
        """Whether that is near enough."""
        return self.kl <= self.case.max_kl and self.most_flipped <= self.case.max_flipped


class PreparedWeights:
    """The folder of what was made for language models."""

    def __init__(self, files: PreparedFiles | None) -> None:
        """Touch nothing yet.

        Args:
            files: the folder; None: there is none, and what is made vanishes with its user.
        """
        self._files = files

    @property
    def folder(self) -> Path | None:
        """Where it is; None: nowhere."""
        return None if self._files is None else self._files.folder

    @property
    def size_bytes(self) -> int:
        """What is kept there now."""
        return 0 if self._files is None else self._files.size_bytes

    @property
    def keeps(self) -> bool:
        """Whether what is made now will be found later, probably."""
        return self._files is not None and self._files.is_writable

    def find_merged(self, spec: LanguageModelSpec) -> PreparedFile | None:
        """Return the merged weights of a model, if they are there; to be closed."""
        return None if self._files is None else self._files.open(_merged_name(spec))

    def make_merged(
        self,
        spec: LanguageModelSpec,
        weights: Path,
        adapter: Path | None,
        step: Step,
        *,
        waits: bool,
    ) -> PreparedFile | None:
        """Return the merged weights of a model, and make them if need be; to be closed.

        Args:
            spec: the model.
            weights: its GGUF, which is what the manifest says.
            adapter: its LoRA, likewise; None: there is none.
            step: see `edge_et.weights.merge`.
            waits: whether somebody waits for them: then another process's are waited for, and where
                none can be kept, they are made for this process alone.

        Returns:
            The file; None: nobody waits, and it was not made.

        Raises:
            ModelFileError: a file is damaged, or the adapter does not fit.
            UnreadableFileError: a file cannot be read.
            OSError: there is no place even for a temporary file.
        """

        def write(target: Path) -> None:
            merge(weights, adapter, target, step=step)

        made = None
        if self._files is not None:
            size_bytes = merged_bytes(weights)
            wait_s = _WAIT_S if waits else 0.0
            made = self._files.make(_merged_name(spec), write, size_bytes, wait_s=wait_s)
        return unnamed_file(write) if made is None and waits else made

    def find_reference(
        self, spec: LanguageModelSpec, ids: NDArray[np.int32]
    ) -> NDArray[np.floating] | Unsupported | None:
        """Return the logits that a model should give, if they were computed before.

        Args:
            spec: the model.
            ids: [n] int32, what it reads.

        Returns:
            [n, V]; or what is not known of the model; None: nobody has computed them.
        """
        if self._files is None:
            return None
        name = _reference_name(spec, ids)
        if (unsupported := self._files.read_note(f"{name}.json", _Unsupported)) is not None:
            return Unsupported(unsupported.reason)
        if (file := self._files.open(f"{name}.npy")) is None:
            return None
        with file:
            logits: NDArray[np.floating] = np.load(file.path, allow_pickle=False)
            return logits

    def make_reference(
        self,
        spec: LanguageModelSpec,
        weights: Path,
        adapter: Path | None,
        ids: NDArray[np.int32],
        step: Step,
    ) -> NDArray[np.floating] | Unsupported:
        """Compute the logits that a model should give, and keep them.

        Args:
            spec: the model.
            weights: as for `make_merged`.
            adapter: as for `make_merged`.
            ids: as for `find_reference`.
            step: see `edge_et.weights.reference_logits`.

        Raises:
            ModelFileError: as for `make_merged`.
            UnreadableFileError: as for `make_merged`.
        """
        logits = reference_logits(weights, adapter, ids, step=step)
        if self._files is None:
            return logits
        name = _reference_name(spec, ids)
        if isinstance(logits, Unsupported):
            self._files.write_note(f"{name}.json", _Unsupported(reason=logits.reason))
            return logits
        # Half precision takes half the room, and adds 1e-5 nats.
        kept = (logits - logits.max(axis=1, keepdims=True)).astype(np.float16)

        def write(target: Path) -> None:
            with target.open("wb") as file:
                np.save(file, kept, allow_pickle=False)

        if (file := self._files.make(f"{name}.npy", write, kept.nbytes)) is not None:
            file.close()
        return logits

    def find_verdict(self, case: Case) -> Verdict | None:
        """Return what was found before, if anything was.

        Args:
            case: what it is about.
        """
        if self._files is None:
            return None
        found: Verdict | None = self._files.read_note(f"{case.key}.json", Verdict)
        return found if found is not None and found.case == case else None

    def keep_verdict(self, verdict: Verdict) -> None:
        """Keep what was found."""
        if self._files is not None:
            self._files.write_note(f"{verdict.case.key}.json", verdict)


class _Unsupported(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    reason: str


def open_prepared_weights() -> PreparedWeights:
    """Return what was made on this machine; the folder need not exist."""
    try:
        folder = user_cache() / "weights"
    except CacheFolderError:
        return PreparedWeights(None)
    return PreparedWeights(PreparedFiles(folder, LIMIT_BYTES))


def merged_spec(spec: LanguageModelSpec, file: PreparedFile) -> LanguageModelSpec:
    """Return what a manifest would say of a model's merged weights.

    Args:
        spec: what it says of the model.
        file: the merged weights.
    """
    ref = msgspec.structs.replace(
        spec.weights,
        path=file.path.name,
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        package=None,
        head=None,
    )
    return msgspec.structs.replace(spec, weights=ref, adapter=None)


def _merged_name(spec: LanguageModelSpec) -> str:
    adapter = None if spec.adapter is None else spec.adapter.sha256
    return f"{_key('merged', RECIPE, spec.weights.sha256, adapter)}.gguf"


def _reference_name(spec: LanguageModelSpec, ids: NDArray[np.int32]) -> str:
    adapter = None if spec.adapter is None else spec.adapter.sha256
    return _key("reference", JUDGEMENT, spec.weights.sha256, adapter, ids.tolist())


def _key(*facts: object) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
