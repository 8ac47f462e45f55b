"""`edge-et doctor`: whether this installation and a bundle are sound, told check by check."""

from typing import TYPE_CHECKING

import click

from edge_et.cli.console import megabytes, printable, progress_bar

if TYPE_CHECKING:
    from PIL.Image import Image


@click.command()
@click.argument("model", required=False)
def doctor(model: str | None) -> None:
    """Check this installation and a bundle: versions, processor, every byte, one answer.

    MODEL is a bundle's name or folder; the installed mini if omitted. What is made of its weights
    once a machine is made now, so that loads use the fastest engine that is right from then on: a
    program that exits right behind its answer never comes to that. What is wrong is told, and
    the exit status is 1; a report of a fault should begin with this output. A disk that loses bits
    shows here and in `edge-et info` alone: a load does not hash large files.
    """
    import platform
    import time
    from importlib.metadata import version

    from edge_et.bundle import find_bundle, load_bundle
    from edge_et.cpu_flags import read_flags
    from edge_et.llm import installed_engines
    from edge_et.pipeline import (
        apply_profile,
        device_name,
        library_versions,
        load,
        open_prepared_weights,
        prepare,
    )
    from edge_et.threads import available_cpus

    def tell(what: str, found: str) -> None:
        print(f"{what + ':':<11}{printable(found)}", flush=True)

    tell("edge-et", f"{version('edge-et')}, Python {platform.python_version()}")
    tell("system", platform.platform())
    libraries = library_versions() | {name: version(name) for name in ("numpy", "tokenizers")}
    tell("libraries", ", ".join(f"{name} {number}" for name, number in libraries.items()))
    tell("processor", f"{device_name()}; {available_cpus()} CPUs for this process")
    flags = read_flags() or ()
    for engine in installed_engines():
        if engine.missing:
            tell(engine.name, f"this CPU lacks {', '.join(engine.missing)}")
            continue
        tell(engine.name, build := engine.open().describe_build())
        if engine.name == "prebuilt" and "AVX512_VNNI = 0" in build and "avx512_vnni" in flags:
            tell(
                "hint",
                "prebuilt would read pictures faster if compiled for this CPU: docs/install.md",
            )
    bundle = load_bundle(find_bundle(model))
    tell("bundle", f"{bundle.manifest.name} {bundle.manifest.version} in {bundle.folder}")
    with progress_bar() as progress:
        bundle.verify(progress)
    sizes = {file.path: file.ref.size_bytes for file in bundle.files}
    tell("files", f"{len(sizes)}, {megabytes(sum(sizes.values()))}, every byte as it should be")
    _, profile = apply_profile(bundle)
    tell("profile", "none, `edge-et autotune` makes one" if profile is None else "in use")
    for use in prepare(bundle):
        tell(use.role, str(use))
    kept = open_prepared_weights()
    if kept.keeps:
        tell("prepared", f"{megabytes(kept.size_bytes)} in {kept.folder}")
    else:
        place = kept.folder or "no home folder"
        tell("prepared", f"{place} cannot be written: every load makes anew what it needs")
    started = time.perf_counter()
    with load(bundle.folder) as pipe:
        loaded = time.perf_counter()
        answer = pipe.answer(_picture(), "What color is the circle?")
        seconds = loaded - started, time.perf_counter() - loaded
    tell("load", f"{seconds[0]:.1f} s")
    tell("answer", f"{answer.text!r} to a drawn red circle's colour, {seconds[1]:.1f} s")


def _picture() -> "Image":
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (224, 224), (236, 236, 240))
    ImageDraw.Draw(picture).ellipse((50, 50, 174, 174), fill=(214, 40, 40))
    return picture
