"""A folder on disk becomes a checked manifest.

In: the name of an installed bundle, or a folder. Out: a `Bundle`, whose manifest follows the format
and whose files are there, complete and unchanged. No model is opened here.
"""

from edge_et.bundle.chat_spec import ChatSpec, RoleNames
from edge_et.bundle.choices_spec import ChoicesSpec
from edge_et.bundle.gguf_head import GgufHead, GgufTensor, check_gguf, read_gguf
from edge_et.bundle.known_answers_spec import KnownAnswers, KnownModel, KnownToken, KnownTower
from edge_et.bundle.loading import (
    HASH_AT_LOAD_BYTES,
    Bundle,
    BundleFile,
    find_bundle,
    load_bundle,
)
from edge_et.bundle.look_again_spec import LookAgainSpec
from edge_et.bundle.manifest import (
    FORMAT_VERSION,
    Check,
    DirectSpec,
    ExtractSpec,
    FileHead,
    FileRef,
    HintSpec,
    LanguageModelSpec,
    Manifest,
    Sampling,
    Source,
    ThinkSpec,
    ThoughtSpec,
    VisionSpec,
    manifest_schema,
)
from edge_et.bundle.manifest_file import MANIFEST_NAME, read_manifest, save_manifest
from edge_et.bundle.pictures_spec import PicturesSpec
from edge_et.bundle.processing_spec import Processing, WholeSize
from edge_et.bundle.tiling_spec import MarkupSpec, Tiling
from edge_et.bundle.verify import file_ref, resolve

__all__ = [
    "FORMAT_VERSION",
    "HASH_AT_LOAD_BYTES",
    "MANIFEST_NAME",
    "Bundle",
    "BundleFile",
    "ChatSpec",
    "Check",
    "ChoicesSpec",
    "DirectSpec",
    "ExtractSpec",
    "FileHead",
    "FileRef",
    "GgufHead",
    "GgufTensor",
    "HintSpec",
    "KnownAnswers",
    "KnownModel",
    "KnownToken",
    "KnownTower",
    "LanguageModelSpec",
    "LookAgainSpec",
    "Manifest",
    "MarkupSpec",
    "PicturesSpec",
    "Processing",
    "RoleNames",
    "Sampling",
    "Source",
    "ThinkSpec",
    "ThoughtSpec",
    "Tiling",
    "VisionSpec",
    "WholeSize",
    "check_gguf",
    "file_ref",
    "find_bundle",
    "load_bundle",
    "manifest_schema",
    "read_gguf",
    "read_manifest",
    "resolve",
    "save_manifest",
]
