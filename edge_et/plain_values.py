"""Values of other libraries, as Python's own.

In: what a caller gave. Out: the same as bools, numbers, texts, tuples and dicts. What an option may
be is not known here.
"""

import itertools
import numbers
import os
import sys
from collections.abc import Mapping, Sequence, Set


def plain(value: object, *, most_items: int, most_keys: int) -> object:
    """Return a value of another library's type, such as numpy's, as Python's own.

    Args:
        value: the value.
        most_items: of a list, so many are looked at: a range may be endless in practice.
        most_keys: of a dict in a list, likewise.

    Raises:
        OverflowError: it is a number too large for a float.
        ValueError: it is a set.
    """
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.bool_):
        return bool(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Set):
        raise ValueError("of equals the first is taken, and a set has no first")
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        items = itertools.islice(value, most_items)
        return tuple(_plain_item(item, most_keys) for item in items)
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _plain_item(item: object, most_keys: int) -> object:
    if isinstance(item, Mapping):
        fields = itertools.islice(item.items(), most_keys)
        return {key: _plain_item(value, most_keys) for key, value in fields}
    return str.__str__(item) if isinstance(item, str) else item
