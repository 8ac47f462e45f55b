"""Runs the tests that take minutes, one process each: `python scripts/check_all.py`.

And those of tests/integration a second time where the prebuilt engine is installed, a file a
process: on that engine alone, which EDGE_ET_TEST_ENGINE asks for.

What passed is kept in build/check-all.json, test by test. So a run that was stopped, killed too,
goes on where it was when it is started again, unless a file changed in between.
"""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "build" / "check-all.json"
PREBUILT = "on the prebuilt engine: "
_NO_TESTS = 5  # pytest's status: all of them are slow
PYTEST = (sys.executable, "-m", "pytest", "-m", "slow", "-q")


def main() -> int:
    """Run what has not passed yet; return how many tests failed."""
    state = tree_state()
    passed = read_record(state)
    tests = collect() + on_prebuilt()
    failed = []
    for number, test in enumerate(tests, 1):
        print(f"[{number}/{len(tests)}] {test}", flush=True)
        if test in passed:
            print("passed before")
        elif passes(test):
            passed.append(test)
            RECORD.parent.mkdir(exist_ok=True)
            RECORD.write_text(json.dumps({"state": state, "passed": passed}, indent=1))
        else:
            failed.append(test)
    print(f"{len(tests) - len(failed)} of {len(tests)} passed", *failed, sep="\n")
    return len(failed)


def collect() -> list[str]:
    """Return the ids of all slow tests."""
    found = subprocess.run(
        [*PYTEST, "--collect-only"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return [line for line in found.stdout.splitlines() if "::" in line]


def on_prebuilt() -> list[str]:
    """Return the files of tests that run on the prebuilt engine; none where it is not installed."""
    if importlib.util.find_spec("ik_llama_cpp") is None:
        return []
    files = sorted((ROOT / "tests" / "integration").glob("test_*.py"))
    return [f"{PREBUILT}{file.relative_to(ROOT)}" for file in files]


def passes(test: str) -> bool:
    """Run a slow test, or a file of those that are not on the prebuilt engine."""
    environment, command = dict(os.environ), [*PYTEST, test]
    if test.startswith(PREBUILT):
        environment["EDGE_ET_TEST_ENGINE"] = "prebuilt"
        command = [sys.executable, "-m", "pytest", "-q", test.removeprefix(PREBUILT)]
    status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    return status in (0, _NO_TESTS)


def tree_state() -> str:
    """Return what changes with every file of the checkout."""
    digest = hashlib.sha256()
    for command in ("rev-parse HEAD", "diff HEAD", "ls-files --others --exclude-standard"):
        digest.update(subprocess.check_output(["git", *command.split()], cwd=ROOT))
    return digest.hexdigest()


def read_record(state: str) -> list[str]:
    """Return what passed in this state of the tree."""
    try:
        record = json.loads(RECORD.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return []
    return list(record["passed"]) if record["state"] == state else []


if __name__ == "__main__":
    sys.exit(main())
