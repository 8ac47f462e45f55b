"""What a check found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Status = Literal["ok", "warning", "error"]
Figure = str | int | float | bool | None | list[str] | dict[str, str] | dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check found.

    Attributes:
        check: its name; programs may rely on it.
        status: ok, or a warning: it works, worse than it could; or an error: it does not work, or
            answers cannot be trusted.
        summary: one sentence for people.
        advice: what to do, a sentence or a command each.
        figures: what was measured, by names with units.
    """

    check: str
    status: Status
    summary: str
    advice: tuple[str, ...] = ()
    figures: Mapping[str, Figure] = field(default_factory=dict)
