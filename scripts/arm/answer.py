"""Asks the mini about pictures, and writes down what every token was chosen over.

Runs in the emulated Python and in that of the host alike: `answer.py ENGINE QUESTIONS RECORD COUNT`
takes the first of some questions (a JSON list of `picture`, from the list's folder, and
`question`). Each answer is a line of JSON behind the others, so that a run that was stopped goes on
where it was; the image tokens of each picture lie beside them.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import edge_et
from edge_et.generation import generation
from edge_et.image import ImageTokens

_ASKED_AGAIN = 3
"""Questions that are asked a second time, with what the caches hold by then."""


def main(engine: str, questions: Path, record: Path, count: int) -> None:
    """Answer what is not answered yet.

    Args:
        engine: as `load` takes it.
        questions: the list.
        record: one line an answer.
        count: how many of the questions are asked.
    """
    record.parent.mkdir(parents=True, exist_ok=True)
    asked = json.loads(questions.read_text())[:count]
    done = len(read_record(record))
    if done == len(asked):
        return
    choices = watch_choices()
    with edge_et.load(
        engine=engine,
        threads=1,
        use_profile=False,
        prompt_lookup=False,
        convert_weights=engine == "prebuilt",  # llama.cpp would take them from the second run on
    ) as pipe:
        for number in range(done, len(asked)):
            start = time.monotonic()
            question = asked[number]["question"]
            image = _image_tokens(pipe, questions.parent / asked[number]["picture"], record, number)
            pipe.clear()
            choices.clear()
            answer = pipe.answer(image, question)
            line: dict[str, Any] = {
                "question": question,
                "text": answer.text,
                "extraction": answer.extraction,
                "reasoning": answer.reasoning,
                "choices": list(choices),
                "seconds": round(time.monotonic() - start, 1),
            }
            if number < _ASKED_AGAIN:
                choices.clear()
                again = pipe.answer(image, question)
                line["again"] = [token for token, *_ in choices]
                line["reused"] = again.usage["extract"].reused_tokens
            with record.open("a") as lines:
                print(json.dumps(line), file=lines)
            print(f"{record.stem} {number + 1}/{len(asked)}: {answer.text}", flush=True)


def read_record(record: Path) -> list[dict[str, Any]]:
    """Return the answers of a record, and cut off a line that was left half-written."""
    if not record.exists():
        return []
    whole = record.read_bytes().rpartition(b"\n")[0]
    if whole and len(whole) + 1 != record.stat().st_size:
        os.truncate(record, len(whole) + 1)
    return [json.loads(line) for line in whole.splitlines()]


def watch_choices() -> list[tuple[int, int, float]]:
    """Return a list that grows by each token, the best other one, and by how much it was better."""
    choices: list[tuple[int, int, float]] = []
    choose: Callable[..., int] = generation.choose

    def noted(sampler: Any, logits: Any, refuses: Any = None) -> int:
        token = choose(sampler, logits, refuses)
        others = logits.copy()
        others[token] = -np.inf
        second = int(others.argmax())
        choices.append((token, second, float(logits[token] - logits[second])))
        return token

    generation.choose = noted
    return choices


def _image_tokens(
    pipe: edge_et.ExtractThink, picture: Path, record: Path, number: int
) -> ImageTokens:
    """Return a picture's tokens [T,D], which are written beside the record."""
    place = record.with_name(f"{record.stem}-{number}.npy")
    if not place.exists():
        part = place.with_suffix(".part.npy")
        np.save(part, pipe.encode_image(picture).rows)
        part.rename(place)
    return ImageTokens(np.load(place), place.name)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
