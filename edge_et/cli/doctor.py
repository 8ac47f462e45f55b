"""`edge-et doctor`: whether this installation and a bundle are sound, told check by check."""

from typing import TYPE_CHECKING

import click

from edge_et.cli.console import printable, progress_bar

if TYPE_CHECKING:
    from edge_et.checkup import Finding


@click.command()
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def doctor(model: str | None, as_json: bool) -> int:
    """Check this installation, this machine and a bundle, down to what its models compute.

    MODEL is a bundle's name or folder; the installed mini if omitted. What is made of its weights
    once a machine is made now, so that loads use the fastest engine that is right from then on: a
    program that exits right behind its answer never comes to that. Each check is ok, a warning or
    an error, with what to do; the exit status is 1 where there is an error. A report of a fault
    should begin with this output. docs/doctor.md tells what is checked. A disk that loses bits
    shows here and in `edge-et info` alone: a load does not hash large files.
    """
    import msgspec

    from edge_et.checkup import STATUS_OF_ALL, check_up

    findings = []
    with progress_bar() as progress:
        for finding in check_up(model, progress=progress):
            findings.append(finding)
            if not as_json:
                _tell(finding)
    status = max((finding.status for finding in findings), key=STATUS_OF_ALL.index)
    if as_json:
        document = {
            "format": "edge-et-doctor",
            "format_version": 1,
            "status": status,
            "checks": findings,
        }
        print(msgspec.json.encode(document).decode())
    else:
        counts = [sum(finding.status == kind for finding in findings) for kind in STATUS_OF_ALL]
        warnings, errors = (
            f"{count} {kind}{'' if count == 1 else 's'}"
            for kind, count in zip(STATUS_OF_ALL[1:], counts[1:], strict=True)
        )
        print(f"{counts[0]} ok, {warnings}, {errors}")
    return 1 if status == "error" else 0


def _tell(finding: "Finding") -> None:
    mark = "" if finding.status == "ok" else f"{finding.status}: "
    print(f"{finding.check + ':':<22}{mark}{printable(finding.summary)}", flush=True)
    for advice in finding.advice:
        print(f"{'':<22}-> {printable(advice)}", flush=True)
