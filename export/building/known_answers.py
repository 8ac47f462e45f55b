"""Put what a bundle's models compute into its manifest, for whoever asks later if they still do.

In: a bundle that the runtime can load. Out: the same, with `known_answers` in bundle.json.
"""

from pathlib import Path

import msgspec

from edge_et.bundle import FORMAT_VERSION, Manifest, load_bundle, save_manifest
from edge_et.pipeline import make_known_answers


def add_known_answers(folder: Path) -> Manifest:
    """Compute what the models of a bundle answer, and write it into its manifest.

    A manifest of an earlier version becomes one of the version that this release writes.

    Args:
        folder: the bundle's.

    Returns:
        The new manifest.

    Raises:
        BundleError: it cannot be loaded; its children tell why.
        FileHashError: a file is not the one that the manifest names.
        VisionRunError: the tower failed.
        EngineError: no engine is installed.
        DecodeError: a language model failed.
    """
    bundle = load_bundle(folder)
    bundle.verify()
    manifest = msgspec.structs.replace(
        bundle.manifest, format_version=FORMAT_VERSION, known_answers=make_known_answers(bundle)
    )
    save_manifest(manifest, folder)
    return manifest
