"""Ray, imported when it is first needed.

In: nothing. Out: the module. What is done with it is not known here.
"""

from typing import Any

from edge_et.errors import MissingExtraError
from edge_et.native_libraries import import_library


def import_ray() -> Any:
    """Return Ray, with `ray.data` loaded.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import_library("ray.data")
        return import_library("ray")
    except ModuleNotFoundError as err:
        raise MissingExtraError("ray", "ray") from err
