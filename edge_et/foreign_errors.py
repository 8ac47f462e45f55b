"""Exceptions out of a library's work: its own, which become ours, and those of other code."""

import sys
from traceback import walk_tb


def raised_by(err: BaseException, *packages: str) -> bool:
    """Say whether a library raised an exception, rather than other code that ran meanwhile.

    Python runs the handlers of signals in the middle of whatever is going on, and a library that
    reads from a file object runs the code of that.

    Args:
        err: just caught.
        packages: names of the library's, as they are imported.
    """
    own = {*packages, "edge_et", *sys.stdlib_module_names}
    modules = [type(err).__module__]
    modules += [frame.f_globals.get("__name__") or "" for frame, _ in walk_tb(err.__traceback__)]
    return all(module.partition(".")[0] in own for module in modules)
