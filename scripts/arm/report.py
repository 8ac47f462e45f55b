"""Compares answers on ARM with those on x86: `python scripts/arm/report.py [FOLDER]`.

In: the records that scripts/arm/answer.py wrote of the same questions. Out: a Markdown table.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from answer import read_record
from numpy.typing import NDArray
from system import DEFAULT

LEAST_COSINE = 0.99
"""Below it an image token counts as another one, as in the checks of a bundle's int8 tower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """How one answer on ARM differs from that of x86.

    Attributes:
        question: what was asked.
        texts: both answers, x86's first.
        same: tokens until the first other one, of all stages.
        tokens: x86's.
        margin: where they part, by how much x86's token was better than ARM's, in logits; None:
            nowhere.
        cosine: of the image token that differs most.
        off: share of the image tokens under `LEAST_COSINE`.
        seconds: what it took on ARM.
    """

    question: str
    texts: tuple[str, str]
    same: int
    tokens: int
    margin: float | None
    cosine: float
    off: float
    seconds: float


def compare(expected: Path, found: Path) -> list[Compared]:
    """Compare two records, as far as both go.

    Args:
        expected: x86's.
        found: ARM's.
    """
    pairs = zip(read_record(expected), read_record(found), strict=False)
    return [
        _compare(here, there, cosines(*(_rows(record, number) for record in (expected, found))))
        for number, (here, there) in enumerate(pairs)
    ]


def cosines(rows: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the cosine [T] of each image token [T,D] and its other."""
    left, right = rows.astype(np.float64), others.astype(np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return np.asarray((left * right).sum(axis=1) / norms)


def _compare(here: dict[str, Any], there: dict[str, Any], cosine: NDArray[np.float64]) -> Compared:
    tokens = [choice[0] for choice in here["choices"]], [choice[0] for choice in there["choices"]]
    same = next(
        (at for at, pair in enumerate(zip(*tokens, strict=False)) if len(set(pair)) > 1), None
    )
    return Compared(
        question=here["question"],
        texts=(here["text"], there["text"]),
        same=len(tokens[0]) if same is None else same,
        tokens=len(tokens[0]),
        margin=None if same is None else here["choices"][same][2],
        cosine=float(cosine.min()),
        off=float((cosine < LEAST_COSINE).mean()),
        seconds=there["seconds"],
    )


def _rows(record: Path, number: int) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = np.load(record.with_name(f"{record.stem}-{number}.npy"))
    return rows


def table(answers: Path) -> list[str]:
    """Return the lines of a table, a row for each CPU and engine.

    Args:
        answers: the folder of the records.
    """
    lines = [
        "| CPU and engine | answers | the same text | every token the same | "
        "largest margin where they part | least cosine | seconds an answer |",
        "|---|---|---|---|---|---|---|",
    ]
    for found in sorted(answers.glob("*-*.jsonl")):
        cpu, _, engine = found.stem.rpartition("-")
        rows = compare(answers / f"x86-{engine}.jsonl", found)
        if cpu == "x86" or not rows:
            continue
        margins = [row.margin for row in rows if row.margin is not None]
        seconds = sorted(row.seconds for row in rows)
        cells = (
            f"{cpu}, {engine}",
            len(rows),
            sum(row.texts[0] == row.texts[1] for row in rows),
            sum(row.margin is None for row in rows),
            f"{max(margins):.3f}" if margins else "-",
            f"{min(row.cosine for row in rows):.4f}",
            f"{seconds[len(seconds) // 2]:.0f}",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def differences(answers: Path) -> list[str]:
    """Return a line for each answer that parts from x86's."""
    return [
        f"- {found.stem}: {row.question!r}, {row.texts[0]!r} became {row.texts[1]!r}: token "
        f"{row.same + 1} of {row.tokens} was better by {row.margin:.3f}"
        for found in sorted(answers.glob("*-*.jsonl"))
        for row in compare(answers / f"x86-{found.stem.rpartition('-')[2]}.jsonl", found)
        if row.margin is not None
    ]


if __name__ == "__main__":
    for folder in sorted((Path(sys.argv[1]) if sys.argv[1:] else DEFAULT).glob("answers-*")):
        print(f"\n{folder.name}\n", *table(folder), "", *differences(folder), sep="\n")
