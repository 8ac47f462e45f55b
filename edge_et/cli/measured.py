"""What a benchmark of the command line measures: a bundle, or one of random weights."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edge_et.bundle import Bundle
    from edge_et.export.steps import Progress

PATH = click.Path(path_type=Path)


def check_one_named(model: str | None, synthetic: str | None) -> None:
    """Refuse two names for what is measured.

    Raises:
        click.UsageError: there are two.
    """
    if model is not None and synthetic is not None:
        raise click.UsageError("--model and --synthetic both say what is measured; give one")


def find_measured(
    model: str | None, synthetic: str | None, folder: Path | None, progress: "Progress"
) -> "Bundle":
    """Return what is to be measured, made on the spot if it is synthetic.

    Args:
        model: a bundle's name or folder; None: the installed mini.
        synthetic: name of a shape; None: `model` is measured.
        folder: where synthetic bundles are kept; None: the user's cache.
        progress: is told how far the making is.
    """
    from edge_et.bundle import find_bundle, load_bundle

    if synthetic is None:
        return load_bundle(find_bundle(model))
    from edge_et.benchmarks.synthetic.shapes import SHAPES
    from edge_et.benchmarks.synthetic.synthetic_bundle import default_folder, synthetic_bundle
    from edge_et.errors import OptionError

    if synthetic not in SHAPES:
        raise OptionError("synthetic", synthetic, f"one of {', '.join(SHAPES)}")
    return synthetic_bundle(SHAPES[synthetic], folder or default_folder(), progress)


def drawn_size(synthetic: str | None) -> tuple[int, int]:
    """Return width and height of the picture that is drawn, pixels.

    Args:
        synthetic: name of a shape; None: a bundle is measured.
    """
    from edge_et.benchmarks.picture import DRAWN_SIZE
    from edge_et.benchmarks.synthetic.shapes import SHAPES

    return DRAWN_SIZE if synthetic is None else SHAPES[synthetic].picture
