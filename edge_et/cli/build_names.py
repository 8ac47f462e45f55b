"""What `edge-et build` builds, named in the catalogue or part by part, and under which licences.

In: a command line. Out: the checkpoints to build from. What is told goes to stderr.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from edge_et.cli.console import printable
from edge_et.errors import MissingExtraError

if TYPE_CHECKING:
    from edge_et.export.catalogue_entry import Entry
    from edge_et.export.licenses import Licensed


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be built.

    Attributes:
        perceiver: `hf:owner/name`, or a folder.
        reasoner: the same; None: the perceiver reasons.
        out: the bundle's folder.
        entry: of the catalogue; None: the parts were named.
    """

    perceiver: str
    reasoner: str | None
    out: Path
    entry: "Entry | None" = None


_READY = ("tower", "llm", "processor")
_REASONER = ("reasoner_llm", "reasoner_processor")
_OF_CHECKPOINTS = ("name", "perceiver", "reasoner")
_MAKE_WEIGHTS = ("quant", "vision_quant", "pictures", "importance")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Files that others have made.

    Attributes:
        places: arguments of `ReadyParts`.
        out: the bundle's folder.
    """

    places: dict[str, str]
    out: Path


def find_ready(context: click.Context) -> Ready | None:
    """Find whether a command line names ready-made files.

    Args:
        context: of `edge-et build`.

    Returns:
        The files; None: it names none.

    Raises:
        click.UsageError: some are missing, or something else is asked for that needs checkpoints.
    """
    named = {key for key, value in context.params.items() if value not in (None, False)}
    if not named & {*_READY, *_REASONER}:
        return None
    needed = [*_READY, "out", *(_REASONER if named & set(_REASONER) else ())]
    if others := [key for key in _OF_CHECKPOINTS if key in named]:
        raise click.UsageError(
            f"either {_option(others[0])} or ready-made files; a ready-made reasoner is named by "
            "--reasoner-llm and --reasoner-processor"
        )
    if missing := [_option(key) for key in needed if key not in named]:
        raise click.UsageError(f"{' and '.join(missing)} missing: ready-made files need all parts")
    if others := [
        key
        for key in _MAKE_WEIGHTS
        if context.get_parameter_source(key) is not ParameterSource.DEFAULT
    ]:
        raise click.UsageError(
            f"{_option(others[0])} is for weights that are made; ready-made ones stay as they are"
        )
    places = {key: context.params[key] for key in (*_READY, *_REASONER) if key in named}
    return Ready(places=places, out=context.params["out"])


def require_export() -> None:
    """Check that checkpoints can be exported, before anything is shown or fetched.

    Raises:
        MissingExtraError: torch or transformers is not installed.
    """
    for package in ("torch", "transformers"):
        if find_spec(package) is None:
            raise MissingExtraError(
                package,
                "export",
                "; without torch a bundle is built from ready-made files: --tower, --llm and "
                "--processor (docs/build.md)",
            )


def _option(key: str) -> str:
    return key.upper() if key == "name" else f"--{key.replace('_', '-')}"


def find_wanted(
    name: str | None, perceiver: str | None, reasoner: str | None, out: Path | None
) -> Wanted:
    """Find which checkpoints a command line asks for.

    Raises:
        click.UsageError: neither an entry nor parts are named, or both.
        UnknownModelError: the catalogue has no entry of that name.
    """
    from edge_et.export.catalogue import find_entry

    if name is None:
        if perceiver is None:
            raise click.UsageError(
                "name a model of `edge-et models`, or its parts by --perceiver and --reasoner, "
                "or ready-made files by --tower, --llm and --processor"
            )
        if out is None:
            raise click.UsageError("--out is missing: the bundle's folder, to be made")
        return Wanted(perceiver=perceiver, reasoner=reasoner, out=out)
    if perceiver is not None or reasoner is not None:
        raise click.UsageError(
            f"either {name} or --perceiver and --reasoner: the catalogue names the parts itself"
        )
    entry = find_entry(name)
    return Wanted(
        perceiver=entry.perceiver.place,
        reasoner=None if entry.reasoner is None else entry.reasoner.place,
        out=out or Path(name),
        entry=entry,
    )


class LicenseReview:
    """Shows the licences of a build before anything is downloaded, and stops it unless accepted."""

    def __init__(self, entry: "Entry | None", *, accepted: bool) -> None:
        """Show what the catalogue knows.

        Args:
            entry: what is built; None: no entry of the catalogue.
            accepted: whether the user accepts every licence.
        """
        self._accepted = accepted
        self._expected = {} if entry is None else {r: p.license for r, p in entry.parts.items()}
        if entry is not None:
            for role, part in entry.parts.items():
                _tell(role, part.repository, part.license, part.url)

    def __call__(self, parts: "Mapping[str, Licensed]") -> None:
        """Show what model cards say, where that is news; those in folders pass.

        Raises:
            LicenseError: a licence has to be accepted, and was not.
        """
        from edge_et.export.licenses import require_permissive

        for role, part in parts.items():
            expected = self._expected.get(role)
            if not part.url or part.license.partition(":")[0] == expected:
                continue
            differs = "" if expected is None else f", where the catalogue has {expected}"
            _tell(role, part.name, part.license, part.url, f", says its model card{differs}")
        if not self._accepted:
            require_permissive(parts)


def _tell(role: str, name: str, licence: str, url: str, more: str = "") -> None:
    click.echo(printable(f"{role} {name}: licence {licence}{more} ({url})"), err=True)
