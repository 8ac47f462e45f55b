"""`edge-et info`: what a bundle is, whether its files are whole, where its weights come from."""

import click

from edge_et.cli.console import megabytes, printable, progress_bar


@click.command()
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def info(model: str | None, as_json: bool) -> None:
    """Verify a bundle, every byte of it, and print what it is made of.

    MODEL is a bundle's name or folder; the installed mini if omitted.
    """
    import msgspec
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from edge_et.bundle import find_bundle, load_bundle

    bundle = load_bundle(find_bundle(model))
    with progress_bar() as progress:
        bundle.verify(progress)
    manifest = bundle.manifest
    if as_json:
        document = {"folder": str(bundle.folder), "verified": True, "manifest": manifest}
        print(msgspec.json.encode(document).decode())
        return

    console = Console()
    files = Table("file", "size", "SHA-256", "lies in", title="Files, all verified")
    for file in bundle.files:
        lies_in = file.ref.package or "the bundle"
        files.add_row(file.role, megabytes(file.ref.size_bytes), file.ref.sha256[:12], lies_in)
    sources = Table("source", "version", "licence", "used for", title="Made from")
    for source in manifest.sources:
        row = (source.name, source.version, source.license, source.used_for)
        sources.add_row(*(escape(printable(cell)) for cell in row))
    checks = Table("check", "value", "limit", "unit", title="Measured when it was made")
    for check in manifest.checks:
        limit = "-" if check.limit is None else f"{check.limit:g}"
        checks.add_row(escape(printable(check.name)), f"{check.value:g}", limit, check.unit)
    console.print(
        f"{manifest.name} {manifest.version}: {printable(manifest.description)}", markup=False
    )
    console.print(str(bundle.folder), markup=False, soft_wrap=True)
    for table in (files, sources, checks):
        console.print(table)
