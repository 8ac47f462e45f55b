"""Asks the installed mini the questions of this folder: python make_answers.py > answers.json.

Each answer is what `edge-et answer --json` prints in a process of its own, without the times.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def ask(picture: str, question: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "edge_et", "answer", FOLDER / picture, question, "--json"]
    printed = subprocess.run(command, capture_output=True, check=True).stdout
    return without_times(json.loads(printed))


def without_times(answer: dict[str, Any]) -> dict[str, Any]:
    for usage in answer["usage"].values():
        del usage["seconds"]
    return answer


if __name__ == "__main__":
    questions = json.loads((FOLDER / "questions.json").read_text())
    print(json.dumps([ask(**question) for question in questions], indent=1))
