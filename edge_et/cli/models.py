"""`edge-et models`: what `edge-et build` can make by name, and what that takes."""

import json
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from edge_et.export.catalogue_entry import Entry

# Narrower terminals get fewer columns, so that no name is broken.
_ALL_COLUMNS = 110
_MOST_COLUMNS = 70


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def models(name: str | None, as_json: bool) -> None:
    """List the models that `edge-et build NAME` makes; with NAME, tell all that is known of one.

    Nothing is downloaded. Sizes and memory are estimates.
    """
    from edge_et.export.catalogue import ENTRIES, NOT_RUN, find_entry

    entry = None if name is None else find_entry(name)
    if as_json:
        described = (
            {"models": [_document(each) for each in ENTRIES]}
            if entry is None
            else {"model": _document(entry)}
        )
        print(json.dumps({"note": NOT_RUN, **described}, indent=2))
        return
    if entry is not None:
        _print_details(entry)
    elif sys.stdout.isatty():
        from rich.console import Console

        print_table(Console(), ENTRIES)
    else:
        for row in (_TITLES, *map(_row, ENTRIES)):
            print(*row, sep="\t")
    click.echo(NOT_RUN, err=True)


_TITLES = ("name", "memory", "bundle", "download", "licence", "good at")


def _row(entry: "Entry") -> tuple[str, ...]:
    sizes = (entry.memory_bytes, entry.bundle_bytes, entry.download_bytes)
    return (entry.name, *map(_gigabytes, sizes), entry.licenses, entry.good_at)


def print_table(console: "Console", entries: "tuple[Entry, ...]") -> None:
    """Print a table of entries, with as many columns as fit.

    Args:
        console: where to.
        entries: a row each.
    """
    from rich import box
    from rich.table import Table

    count = len(_TITLES)
    if console.width < _ALL_COLUMNS:
        count = 5 if console.width >= _MOST_COLUMNS else 2
    table = Table(box=box.SIMPLE)
    for title in _TITLES[:count]:
        table.add_column(title, no_wrap=title == "name", overflow="fold")
    for entry in entries:
        table.add_row(*_row(entry)[:count])
    console.print(table)
    console.print("`edge-et models NAME` tells more of one.", markup=False, highlight=False)


def _print_details(entry: "Entry") -> None:
    """Write what is known of an entry for people."""
    print(f"{entry.name}: {entry.good_at}")
    for role, part in entry.parts.items():
        print(f"{role}: {part.place}, licence {part.license} ({part.url})")
    print(f"download: about {_gigabytes(entry.download_bytes)}")
    print(f"bundle: about {_gigabytes(entry.bundle_bytes)}, tower in int8, the rest in Q4_K_M")
    one_tile = ""
    if entry.one_tile_memory_bytes < entry.memory_bytes:
        one_tile = f"; built with --max-tiles 1, {_gigabytes(entry.one_tile_memory_bytes)}"
    print(
        f"memory for one picture: about {_gigabytes(entry.memory_bytes)}{one_tile}.\n"
        "  All of the bundle, KV caches in F16 for the largest picture and the default budgets, "
        "and buffers."
    )
    for figure in entry.figures:
        print(f"published: {figure.measure}: {figure.value} ({figure.source})")
    if not entry.figures:
        print("published: nothing of which a source was at hand")
    print(f"build it: {entry.command}")
    if not entry.is_permissive:
        print("  with --accept-licence, unless the model cards state a permissive licence by then")


def _document(entry: "Entry") -> dict[str, Any]:
    return {
        "name": entry.name,
        "good_at": entry.good_at,
        "parts": {
            role: {"place": part.place, "license": part.license, "url": part.url}
            for role, part in entry.parts.items()
        },
        "download_bytes": entry.download_bytes,
        "bundle_bytes": entry.bundle_bytes,
        "memory_bytes": entry.memory_bytes,
        "one_tile_memory_bytes": entry.one_tile_memory_bytes,
        "published": [
            {"measure": figure.measure, "value": figure.value, "source": figure.source}
            for figure in entry.figures
        ],
        "command": entry.command,
    }


def _gigabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB"
