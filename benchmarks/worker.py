"""The process that does the work of one configuration and measures it.

``python -m edge_et.benchmarks.worker ENGINE`` reads a `Job` as JSON from stdin and prints a
`Measured` as JSON. Nothing but the standard library is imported before its clock runs.
"""

import sys
from time import perf_counter
from typing import get_args


def main() -> None:
    """Measure, print, and leave with status 1 and one line on stderr if it cannot be done."""
    start = perf_counter()
    try:
        from edge_et.benchmarks.engines import Engine, import_libraries

        (engine,) = (name for name in get_args(Engine) if name == sys.argv[1])
        import_libraries(engine)
        import_s = perf_counter() - start

        import msgspec

        from edge_et.benchmarks.measure import Job, measure
        from edge_et.errors import EdgeETError
    except ModuleNotFoundError as err:
        sys.exit(f"the package {err.name} is not installed")
    try:
        job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
        print(msgspec.json.encode(measure(job, engine, import_s)).decode())
    except EdgeETError as err:
        sys.exit(str(err))


if __name__ == "__main__":
    main()
