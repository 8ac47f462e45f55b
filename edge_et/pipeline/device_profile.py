"""Device profiles: what `edge-et autotune` found out about a bundle on this machine.

In: a bundle. Out: the settings to open it with, and the bundle with those weights that are faster
here. A profile that was made for something else, or whose files were damaged, is passed over: a
bundle opens without one as well, only slower.
"""

import functools
import hashlib
import logging
import os
import platform
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from edge_et.bundle import (
    HASH_AT_LOAD_BYTES,
    MANIFEST_NAME,
    Bundle,
    BundleFile,
    FileRef,
    file_ref,
    resolve,
)
from edge_et.errors import BundleError, CacheFolderError
from edge_et.foreign_errors import raised_by
from edge_et.llm import installed_engines
from edge_et.options import KvType
from edge_et.store import user_cache

FORMAT: Final = "edge-et-profile"
FORMAT_VERSION: Final = 1
PROFILE_NAME = "profile.json"

_CPUINFO = Path("/proc/cpuinfo")

logger = logging.getLogger(__name__)


class ModelSpeed(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How fast one language model is with a profile's weights and settings."""

    prompt_tokens: Annotated[int, Meta(ge=1, description="Positions of a prompt that was read.")]
    prompt_seconds: Annotated[float, Meta(gt=0, description="What that took.")]
    token_seconds: Annotated[float, Meta(gt=0, description="Each token written behind it.")]


class DeviceProfile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How to open one bundle on one machine; docs/autotune.md explains the fields."""

    bundle_sha256: Annotated[str, Meta(description="Of the bundle's bundle.json.")]
    device: Annotated[str, Meta(description="`device_name()` of the machine.")]
    versions: Annotated[dict[str, str], Meta(description="Of the libraries that run the models.")]
    threads: Annotated[int, Meta(ge=1)]
    kv_type: KvType
    flash_attention: bool
    perceiver: Annotated[
        FileRef | None, Meta(description="Weights that hold the adapter too; null: the bundle's.")
    ]
    reasoner: Annotated[
        FileRef | None, Meta(description="As perceiver, for a reasoner of its own.")
    ]
    perceiver_speed: Annotated[
        ModelSpeed | None, Meta(description="null: not measured when the profile was made.")
    ] = None
    reasoner_speed: Annotated[
        ModelSpeed | None, Meta(description="As perceiver_speed, of a reasoner of its own.")
    ] = None
    format: Literal["edge-et-profile"] = FORMAT
    format_version: Literal[1] = FORMAT_VERSION


def apply_profile(bundle: Bundle) -> tuple[Bundle, DeviceProfile | None]:
    """Return a bundle as its profile has it, and the profile.

    Args:
        bundle: as `load_bundle` gave it.

    Returns:
        The same bundle and None where there is no profile that fits.
    """
    try:
        path = profile_folder(bundle) / PROFILE_NAME
        if not path.is_file():
            return bundle, None
    except (OSError, CacheFolderError) as err:
        if not raised_by(err):  # a signal's handler may raise a TimeoutError
            raise
        logger.debug("no profile is looked for: %s", err)
        return bundle, None
    try:
        profile = msgspec.json.decode(path.read_bytes(), type=DeviceProfile)
        _check_fits(profile, bundle)
        found = _with_weights(bundle, profile, path.parent)
    except (
        OSError,
        PackageNotFoundError,
        msgspec.DecodeError,
        UnicodeDecodeError,
        BundleError,
        _UnfitError,
    ) as err:
        if not raised_by(err, "msgspec"):
            raise
        logger.warning("%s is not used: %s; edge-et autotune makes a new one", path, err)
        return bundle, None
    return found, profile


def profile_folder(bundle: Bundle) -> Path:
    """Return where a bundle's profile and the files made for it lie: in the user's caches."""
    return user_cache() / "profiles" / manifest_sha256(bundle)[:16]


def manifest_sha256(bundle: Bundle) -> str:
    """Return the SHA-256 of a bundle's bundle.json, which holds those of all its files."""
    return file_ref(bundle.folder / MANIFEST_NAME).sha256


@functools.cache
def device_name() -> str:
    """Return what tells this machine's processor from others, as far as speed is concerned."""
    name, features = platform.processor(), ""
    with suppress(OSError):  # not there, or not for us to read
        fields: dict[str, str] = {}
        for line in _CPUINFO.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
        # x86 says the first of each, ARM the second.
        name = fields.get("model name") or fields.get("CPU part") or name
        features = fields.get("flags") or fields.get("Features") or ""
    told = hashlib.sha256(features.encode()).hexdigest()[:8]
    return f"{platform.machine()}, {os.cpu_count()} x {name}, features {told}"


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that run the models.

    Raises:
        PackageNotFoundError: one of them was not installed as a package of its usual name.
    """
    found = {engine.package: version(engine.package) for engine in installed_engines()}
    return found | {"onnxruntime": version("onnxruntime")}


def cache_fingerprint(threads: int, *, flash_attention: bool) -> dict[str, object]:
    """Return what the last bit of a number may depend on, models and their inputs aside.

    Which engine evaluates a language model is told of what it evaluates: see
    `edge_et.llm.ImagePromptCache`.

    Args:
        threads: of the models.
        flash_attention: whether attention never makes its whole matrix.

    Raises:
        PackageNotFoundError: edge-et, numpy, Pillow or ONNX Runtime was not installed as a package
            of its usual name.
    """
    return {
        "edge-et": version("edge-et"),
        "numpy": version("numpy"),
        "pillow": version("pillow"),
        "onnxruntime": version("onnxruntime"),
        "device": device_name(),
        "threads": threads,
        "flash_attention": flash_attention,
    }


class _UnfitError(Exception):
    """A profile was made for something else; the message says for what."""


def _check_fits(profile: DeviceProfile, bundle: Bundle) -> None:
    if profile.bundle_sha256 != manifest_sha256(bundle):
        raise _UnfitError("it was made for another bundle")
    if profile.device != device_name():
        raise _UnfitError("it was made on another processor")
    if profile.versions != library_versions():
        raise _UnfitError(f"it was made with {profile.versions}")


def _with_weights(bundle: Bundle, profile: DeviceProfile, folder: Path) -> Bundle:
    """Put a profile's weights in the place of the bundle's."""
    manifest = bundle.manifest
    files = list(bundle.files)
    new: list[BundleFile] = []
    for role, ref in (("perceiver", profile.perceiver), ("reasoner", profile.reasoner)):
        spec = getattr(manifest, role)
        if ref is None or spec is None:
            continue
        gone = (f"{role}.weights", f"{role}.adapter")
        files = [file for file in files if file.role not in gone]
        new.append(BundleFile(role=gone[0], ref=ref, path=resolve(ref, folder)))
        spec = msgspec.structs.replace(spec, weights=ref, adapter=None)
        manifest = msgspec.structs.replace(manifest, **{role: spec})
    replace(bundle, files=tuple(new)).verify(up_to_bytes=HASH_AT_LOAD_BYTES)
    return replace(bundle, manifest=manifest, files=(*files, *new))
