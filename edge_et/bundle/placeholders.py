"""The places of a template: which of them a text of the manifest has.

In: a text. Out: nothing, or a `ValueError` that names the place. What fills them is not known here.
"""

import re

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


def check_placeholders(template: str, *, required: set[str], allowed: set[str]) -> None:
    """Refuse a template whose places are others than they should be.

    Args:
        template: text with places such as ``{question}``.
        required: names that it must have.
        allowed: names that it may have, the required ones too; ``image`` once at most.

    Raises:
        ValueError: a place is unknown, missing or there too often.
    """
    found = _PLACEHOLDER.findall(template)
    unknown = sorted(set(found) - allowed)
    if unknown:
        raise ValueError(f"unknown placeholder {{{unknown[0]}}} in {template!r}")
    missing = sorted(required - set(found))
    if missing:
        raise ValueError(f"placeholder {{{missing[0]}}} is missing in {template!r}")
    if found.count("image") > 1:
        raise ValueError(f"placeholder {{image}} occurs more than once in {template!r}")
