"""A dataset in, a dataset with answers out: what Ray is told to do, and what is refused before.

In: a `ray.data.Dataset` and options. Out: another one. Rows about one picture are brought together
at once, since no answer can begin before; answers are made when the dataset is read. How a row is
answered is not known here.
"""

import os
from collections.abc import Mapping
from typing import Any, Final, Unpack

from edge_et.batch import answer_types
from edge_et.errors import OptionError
from edge_et.keywords import OptionValues, with_options
from edge_et.options import check_at_least, check_path, parse_options
from edge_et.pipeline import check_asked
from edge_et.ray.answerer import IMAGE, QUESTION, Answerer
from edge_et.ray.library import import_ray

_ANY_QUESTION: Final = "?"  # stands for those of the rows where options are checked
_PICTURES: Final = ("string", "large_string", "binary", "large_binary", "object", "str", "null")
"""How types of Arrow and pandas begin that hold texts or bytes."""


@with_options
def answer_dataset(
    dataset: Any,
    *,
    model: str | os.PathLike[str] | None = None,
    image: str = IMAGE,
    question: str = QUESTION,
    ask: str | None = None,
    num_cpus: int = 1,
    actors: int | None = None,
    blocks: int | None = None,
    **options: Unpack[OptionValues],
) -> Any:
    """Answer a question in each row of a dataset.

    The rows about one picture are brought together in one block, which Ray does before this
    returns. Answers are made when the result is read, block by block, in an order that Ray decides.

    Args:
        dataset: a `ray.data.Dataset`.
        model: as for `edge_et.load`; a path is one on every machine of the cluster.
        image: the column of pictures: paths that every machine of the cluster can read, or bytes of
            files.
        question: the column of questions.
        ask: the question of all rows; None: each row has its own.
        num_cpus: CPUs that Ray sets aside for each actor, and threads of its models.
        actors: how many actors load the bundle and answer; None: as many as the cluster has CPUs
            for now.
        blocks: how many blocks the rows become, at least 1. Answers of a block appear together, and
            begin anew where its actor dies. None: Ray's own default, which is 200.
        options: as for `edge_et.answer`.

    Returns:
        A `ray.data.Dataset` with the columns of the rows, in another order, and with the fields of
        an answer that docs/batch.md tells of, ``seconds``, ``picture_sha256`` and ``error``. A row
        with an error has its type and message there, and no answer.

    Raises:
        OptionError: an argument or option is wrong, or a column is missing or there already.
        MissingExtraError: Ray is not installed.
    """
    check_asked(_ANY_QUESTION if ask is None else ask, parse_options(options))
    model = None if model is None else check_path("model", model)
    check_at_least("num_cpus", num_cpus, 1)
    for name, number in (("actors", actors), ("blocks", blocks)):
        if number is not None:
            check_at_least(name, number, 1)
    ray = import_ray()
    if not isinstance(dataset, ray.data.Dataset):
        raise OptionError("dataset", dataset, "a ray.data.Dataset")
    needed = {"image": image} if ask is not None else {"image": image, "question": question}
    _check_columns(dataset, needed)
    room = _room(ray, num_cpus)
    # Actors would keep the CPUs that grouping needs, and both would wait for one another.
    grouped = dataset.repartition(
        blocks or ray.data.DataContext.get_current().default_hash_shuffle_parallelism,
        keys=[image],
    ).materialize()
    return grouped.map_batches(
        Answerer,
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=actors or room),
        num_cpus=num_cpus,
        udf_modifying_row_count=False,
        fn_constructor_args=(model,),
        fn_constructor_kwargs={"image": image, "question": question, "ask": ask, **options},
    )


def _check_columns(dataset: Any, needed: Mapping[str, str]) -> None:
    """Refuse a dataset that has not the columns of rows, or has those of answers.

    Args:
        dataset: of which Ray reads the first rows, where it does not know the columns.
        needed: the columns of rows, by the arguments that name them.

    Raises:
        OptionError: it is refused.
    """
    schema = dataset.schema()
    if schema is None:  # there are no rows
        return
    kinds = dict(zip(schema.names, map(str, schema.types), strict=True))
    for name, column in needed.items():
        if column not in kinds:
            raise OptionError(name, column, f"one of the columns {', '.join(kinds)}")
    image = needed["image"]
    if not kinds[image].startswith(_PICTURES):
        raise OptionError("image", image, f"a column of paths or bytes, this is {kinds[image]}")
    if taken := [name for name in answer_types("string") if name in kinds]:
        expected = f"none with the columns {', '.join(taken)}, which answers have: rename_columns"
        raise OptionError("dataset", dataset, expected)


def _room(ray: Any, num_cpus: int) -> int:
    """Return how many actors of so many CPUs the machines of the cluster have room for.

    Raises:
        OptionError: for none.
    """
    cpus = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    room = sum(int(count // num_cpus) for count in cpus)
    if not room:
        expected = f"at most the CPUs of a machine of the cluster, {int(max(cpus, default=0))}"
        raise OptionError("num_cpus", num_cpus, expected)
    return room
