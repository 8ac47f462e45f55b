"""A program that asks about a dataset with Ray: `python ray_program.py FOLDER BUNDLE`.

FOLDER is Ray's, and its path short: sockets lie in it. Rows come from standard input, as JSON; what
came out goes to standard output. Actors are `Watched` ones, which tell what they did.
"""

import json
import os
import sys
from typing import Any

import edge_et.ray.dataset
from edge_et.image import VisionTower
from edge_et.ray import Answerer, answer_dataset

_STARTS = 3  # Ray waits 30 seconds for its own processes, which a busy machine needs longer for


class Watched(Answerer):
    """Tells of each row in which actor it was, with how many threads, and whether the tower ran."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.tiles = self.calls = 0
        encode = VisionTower.encode

        def counted(tower: VisionTower, *args: Any) -> Any:
            self.tiles += 1
            return encode(tower, *args)

        VisionTower.encode = counted  # type: ignore[method-assign]

    def __call__(self, table: Any) -> Any:
        before = self.tiles
        table = super().__call__(table)
        self.calls += 1
        told = {
            "actor": os.getpid(),
            "call": self.calls,
            "tiles": self.tiles - before,
            "threads": self.threads(),
        }
        for name, value in told.items():
            table = table.append_column(name, [[value] * len(table)])
        return table

    def threads(self) -> list[int]:
        """Return those of the tower, and the most of the engine."""
        pipe: Any = self._rows._pipe
        tower = pipe._encoder._tower._session
        with tower.lock:
            of_tower = tower.value.get_session_options().intra_op_num_threads
        spare = pipe._models.perceiver.kv_cache._context._spare_threads
        return [of_tower, spare.most]


def _start(ray: Any, folder: str) -> None:
    for left in reversed(range(_STARTS)):
        try:
            ray.init(
                num_cpus=2,
                include_dashboard=False,
                object_store_memory=80_000_000,
                log_to_driver=False,
                logging_level="ERROR",
                _temp_dir=folder,
            )
            return
        except Exception:
            ray.shutdown()
            if not left:
                raise


def main() -> None:
    """Ask twice: with two actors of one CPU each, and with one of both CPUs."""
    import ray
    import ray.data

    folder, bundle = sys.argv[1:]
    _start(ray, folder)
    ray.data.DataContext.get_current().enable_progress_bars = False
    edge_et.ray.dataset.Answerer = Watched  # type: ignore[misc]
    dataset = ray.data.from_items(json.load(sys.stdin))
    runs = []
    for num_cpus, wants in ((1, None), (2, "What is in it?")):
        answered = answer_dataset(
            dataset, model=bundle, ask=wants, num_cpus=num_cpus, blocks=4, max_answer_tokens=8
        )
        runs.append(answered.take_all())
    print(json.dumps({"runs": runs, "usage_stats": os.environ.get("RAY_USAGE_STATS_ENABLED")}))
    ray.shutdown()


if __name__ == "__main__":
    main()
