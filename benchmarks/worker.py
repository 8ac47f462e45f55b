"""The worker process, which does the work of one configuration and measures it.

``python -m edge_et.benchmarks.worker`` reads a `Job` as JSON from stdin and prints a `Measured` as
JSON. Nothing but the standard library is imported before its clock runs.
"""

import json
import sys
from time import perf_counter


def main() -> None:
    """Measure, print, and leave with status 1 and one line on stderr if it cannot be done."""
    text = sys.stdin.buffer.read()
    name = json.loads(text)["engine"]
    start = perf_counter()
    try:
        from edge_et.benchmarks.engines import ENGINES, import_libraries

        import_libraries(name)
        import_s = perf_counter() - start if ENGINES[name].libraries else None

        import msgspec

        from edge_et.benchmarks.measure import measure
        from edge_et.benchmarks.subject import Job
        from edge_et.errors import EdgeETError
    except ModuleNotFoundError as err:
        sys.exit(f"the package {err.name} is not installed")
    try:
        job = msgspec.json.decode(text, type=Job)
        print(msgspec.json.encode(measure(job, import_s)).decode())
    except EdgeETError as err:
        sys.exit(str(err))


if __name__ == "__main__":
    main()
