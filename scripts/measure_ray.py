"""How many rows a minute Ray's actors answer here: `python scripts/measure_ray.py`.

The mini is asked about drawn pictures, each another one, with four questions each. Starting Ray,
grouping, and loading the bundle are told apart from answering, which is from the first row's
beginning to the last one's end. Memory is that of the actors, shared pages divided among them.
"""

import argparse
import io
import os
import random
import tempfile
import time
from typing import Any

import ray
import ray.data
from PIL import Image, ImageDraw

import edge_et.ray.dataset
from edge_et.ray import Answerer, answer_dataset

COLOURS = ("red", "green", "blue", "yellow", "black", "purple")
QUESTIONS = (
    "What is this?",
    "What colour is it?",
    "How many things are there?",
    "Is there a circle?",
)
ROOT_FOLDER = "/tmp"  # Linux allows 107 characters for the path of a socket


class Measured(Answerer):
    """Tells when a block began and ended, and the memory of its process."""

    def __call__(self, table: Any) -> Any:
        """Answer a table, and tell of it in further columns."""
        start = time.time()
        table = super().__call__(table)
        told = {"actor": os.getpid(), "start": start, "end": time.time(), "memory": shared_out()}
        for name, value in told.items():
            table = table.append_column(name, [[value] * len(table)])
        return table


def main() -> None:
    """Ask with one actor of all CPUs, then with one of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpus", type=int, default=os.cpu_count())
    parser.add_argument("--pictures", type=int, default=16)
    given = parser.parse_args()
    rows = [
        {"image": draw(number), "question": question}
        for number in range(given.pictures)
        for question in QUESTIONS
    ]
    random.Random(0).shuffle(rows)
    edge_et.ray.dataset.Answerer = Measured  # type: ignore[misc]
    with tempfile.TemporaryDirectory(prefix="ray", dir=ROOT_FOLDER) as folder:
        start = time.time()
        ray.init(num_cpus=given.cpus, include_dashboard=False, _temp_dir=folder)
        ray.data.DataContext.get_current().enable_progress_bars = False
        print(f"{time.time() - start:.0f} s until Ray was there")
        dataset = ray.data.from_items(rows)
        for num_cpus in (given.cpus, 1):
            measure(dataset, num_cpus)
        ray.shutdown()


def measure(dataset: Any, num_cpus: int) -> None:
    """Answer all rows, and print what it took."""
    start = time.time()
    answers = answer_dataset(dataset, num_cpus=num_cpus, blocks=8)
    grouped = time.time()
    rows = answers.take_all()
    failed = [row["error"] for row in rows if row["error"]]
    if failed:
        raise SystemExit(f"{len(failed)} rows have errors, such as {failed[0]}")
    first, last = min(row["start"] for row in rows), max(row["end"] for row in rows)
    memory = {row["actor"]: row["memory"] for row in rows}
    print(
        f"{len(memory)} actors of {num_cpus} CPUs: {60 * len(rows) / (last - first):.0f} rows/min, "
        f"{sum(row['seconds'] for row in rows) / len(rows):.2f} s a row; "
        f"{grouped - start:.0f} s to group, {first - grouped:.0f} s until the first row began; "
        f"{', '.join(f'{size / 1e6:.0f} MB' for size in memory.values())}"
    )


def draw(seed: int) -> bytes:
    """Return a PNG with one to five things."""
    chance = random.Random(seed)
    image = Image.new("RGB", (384, 384), "white")
    pen = ImageDraw.Draw(image)
    for _ in range(chance.randint(1, 5)):
        left, top, size = chance.randint(0, 300), chance.randint(0, 300), chance.randint(30, 80)
        shape = chance.choice((pen.ellipse, pen.rectangle))
        shape((left, top, left + size, top + size), fill=chance.choice(COLOURS))
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def shared_out() -> int:
    """Return the bytes of this process in memory, those that others map too divided among all."""
    with open("/proc/self/smaps_rollup") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("Pss:"))


if __name__ == "__main__":
    main()
