"""Whether a bundle's files are the ones that its manifest names, and how loads open its models.

In: a bundle. Out: findings.
"""

from collections.abc import Callable
from dataclasses import replace

from edge_et.bundle import Bundle
from edge_et.checkup.finding import Figure, Finding
from edge_et.errors import BundleError
from edge_et.pipeline import DeviceProfile, EngineUse

Progress = Callable[[str, int, int], None]


def check_bundle(bundle: Bundle) -> Finding:
    """Tell which bundle it is.

    Args:
        bundle: as it was loaded.
    """
    manifest = bundle.manifest
    return Finding(
        check="bundle",
        status="ok",
        summary=f"{manifest.name} {manifest.version} in {bundle.folder}, format "
        f"{manifest.format_version}",
        figures={
            "name": manifest.name,
            "version": manifest.version,
            "folder": str(bundle.folder),
            "format_version": manifest.format_version,
        },
    )


def check_files(bundle: Bundle, progress: Progress) -> Finding:
    """Hash every file, also behind one that is damaged.

    Args:
        bundle: the bundle.
        progress: told about every block: what is hashed, how many bytes are done, and of how many.
    """
    files = {file.path: file for file in bundle.files}
    total, done = sum(file.ref.size_bytes for file in files.values()), 0
    wrong: list[str] = []

    def told(what: str, of_file: int, _: int) -> None:
        progress(what, done + of_file, total)

    for file in files.values():
        try:
            replace(bundle, files=(file,)).verify(told)
        except BundleError as err:
            wrong.append(str(err))
        done += file.ref.size_bytes
    figures: dict[str, Figure] = {"files": len(files), "size_bytes": total, "wrong": wrong}
    if wrong:
        return Finding(
            check="files",
            status="error",
            summary="; ".join(wrong),
            advice=("get the bundle again; if it happens anew, the disk or the card is failing",),
            figures=figures,
        )
    return Finding(
        check="files",
        status="ok",
        summary=f"{len(files)}, {total / 1e6:.1f} MB, every byte as it should be",
        figures=figures,
    )


def check_profile(profile: DeviceProfile | None) -> Finding:
    """Tell whether what `edge-et autotune` found is used.

    Args:
        profile: the bundle's; None: there is none that fits.
    """
    return Finding(
        check="profile",
        status="ok",
        summary="none, `edge-et autotune` makes one" if profile is None else "in use",
        figures={
            "is_used": profile is not None,
            "kv_type": None if profile is None else profile.kv_type,
            "threads": None if profile is None else profile.threads,
        },
    )


def check_use(use: EngineUse) -> Finding:
    """Tell how loads open a model.

    Args:
        use: of the model.
    """
    return Finding(
        check=f"engine_use.{use.role}",
        status="error" if use.engine is None else "ok",
        summary=str(use),
        advice=("install another engine: docs/install.md",) if use.engine is None else (),
        figures={"engine": use.engine, "weights": use.weights, "why": use.why},
    )
