"""The provenance of a checkpoint: its files, its version, its licence.

In: a folder, or the names that a repository holds. Out: a `Checkpoint`. No tensor is read here.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_et.export.errors import UnreadableCheckpointError
from edge_et.export.steps import needing_extra

with needing_extra("assemble"):
    from huggingface_hub import ModelCard

_TEXTS = {
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
}
# What transformers writes, the better format first. Other names are other people's copies.
_WEIGHTS = (
    re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?"),
    re.compile(r"pytorch_model(-\d{5}-of-\d{5})?\.bin|pytorch_model\.bin\.index\.json"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFile:
    """A file of a checkpoint.

    Attributes:
        name: in the checkpoint's folder.
        size_bytes: its size; None where a mirror of the hub does not tell it.
        sha256: of its content, where the hub tells it: files in large-file storage.
    """

    name: str
    size_bytes: int | None
    sha256: str | None = None

    @property
    def is_weights(self) -> bool:
        """Whether it holds tensors."""
        return self.name.endswith((".safetensors", ".bin"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint that is known to exist.

    Attributes:
        name: `owner/name` on the hub, or the folder's name.
        version: the commit on the hub; of a folder, the SHA-256 of its files' hashes.
        url: where people can look at it; empty for a folder.
        license: as its model card states it, or `unknown: see URL`.
        files: what is needed of it, by name.
        folder: where it lies; None: on the hub.
    """

    name: str
    version: str
    url: str
    license: str
    files: tuple[CheckpointFile, ...]
    folder: Path | None

    @property
    def weights_bytes(self) -> int:
        """Bytes of all tensors, as stored; of files whose size is not known, none."""
        return sum(file.size_bytes or 0 for file in self.files if file.is_weights)


def checkpoint_in_folder(folder: Path, *, weights: bool = True) -> Checkpoint:
    """Look at a folder; its files are hashed.

    Args:
        folder: as transformers writes it.
        weights: whether it has to hold tensors.

    Raises:
        UnreadableCheckpointError: no such folder, or one without a config or weights.
    """
    if not folder.is_dir():
        raise UnreadableCheckpointError(
            f"{folder} is not a folder; a model of the hub is written hf:owner/name"
        )
    present = (path.name for path in folder.iterdir() if path.is_file())
    needed = needed_files(present, weights=weights)
    if not needed:
        tensors = ", or model.safetensors or pytorch_model.bin" if weights else ""
        raise UnreadableCheckpointError(f"{folder} lacks config.json{tensors}")
    files = _hashed(folder, needed)
    identity = hashlib.sha256()
    for file in files:
        identity.update(f"{file.name} {file.sha256}\n".encode())
    card = folder / "README.md"
    return Checkpoint(
        name=folder.resolve().name,
        version=f"sha256:{identity.hexdigest()}",
        url="",
        license=license_of(_card_data(card) if card.is_file() else None, "the folder"),
        files=files,
        folder=folder,
    )


def single_file(path: Path, suffix: str) -> Checkpoint:
    """Look at one file, and at those that hold its weights; they are hashed.

    Args:
        path: the file.
        suffix: what its name has to end with.

    Raises:
        UnreadableCheckpointError: no such file, or one of another kind.
    """
    if path.suffix != suffix or not path.is_file():
        problem = "does not exist" if path.suffix == suffix else f"does not end with {suffix}"
        raise UnreadableCheckpointError(
            f"{path} {problem}; a file of the hub is written hf:owner/name/path/to/file{suffix}"
        )
    beside = (each.name for each in path.parent.iterdir() if each.is_file())
    files = _hashed(path.parent, file_and_weights(path.name, beside))
    return Checkpoint(
        name=path.name,
        version=f"sha256:{files[0].sha256}",
        url="",
        license="unknown: see where the file is from",
        files=files,
        folder=path.parent,
    )


def file_and_weights(name: str, names: Iterable[str]) -> list[str]:
    """Return the name of a file and those of the files that hold an ONNX graph's weights.

    Args:
        name: the file.
        names: of all files.
    """
    beside = re.compile(re.escape(name) + r"(_data(_\d{1,3})?|\.data)")
    return [name, *sorted(each for each in names if beside.fullmatch(each))]


def needed_files(names: Iterable[str], *, weights: bool = True) -> list[str]:
    """Return the names of the files to take, sorted; none where there is no checkpoint.

    Code and pickled settings are not among them. Only names that are listed here are ever taken,
    so none of them leads out of its folder.

    Args:
        names: of all files.
        weights: whether there have to be tensors.
    """
    known = set(names)
    tensors: set[str] = set()
    for pattern in _WEIGHTS:
        tensors = tensors or {name for name in known if pattern.fullmatch(name)}
    if "config.json" not in known or (weights and not tensors):
        return []
    return sorted(tensors | (known & _TEXTS))


def license_of(card: Any, where: str) -> str:
    """Return the licence that a model card states, in its own words.

    Args:
        card: the card's metadata, or None.
        where: what to look at where none is stated.
    """
    stated = getattr(card, "license", None)
    if stated == "other":  # whoever wrote it chose its name, which may be that of another
        stated = f"{getattr(card, 'license_name', None) or 'unnamed'} (other)"
    if isinstance(stated, list):
        stated = ", ".join(map(str, stated))
    return stated if isinstance(stated, str) and stated else f"unknown: see {where}"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hashed(folder: Path, names: Iterable[str]) -> tuple[CheckpointFile, ...]:
    return tuple(
        CheckpointFile(
            name=name, size_bytes=(folder / name).stat().st_size, sha256=sha256_of(folder / name)
        )
        for name in names
    )


def _card_data(path: Path) -> Any:
    try:
        return ModelCard.load(path, ignore_metadata_errors=True).data
    except Exception:  # a card is for people: one that cannot be read states no licence
        return None
