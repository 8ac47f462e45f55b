"""A run: inputs, output and workers put together.

In: what a user says. Out: the output, and a summary. How a command line tells of it is not known
here.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final, Literal

import msgspec

from edge_et.batch.answering import failed
from edge_et.batch.inputs import Inputs, read_inputs
from edge_et.batch.output import Output, writing
from edge_et.batch.parquet import check_plain, plan_schema, write_parquet
from edge_et.batch.pictures import Groups, group
from edge_et.batch.worker import Opening, Task
from edge_et.batch.workers import answers
from edge_et.bundle import Bundle, find_bundle, load_bundle
from edge_et.errors import BatchOutputError, OptionError
from edge_et.options import (
    MAX_THREADS,
    AnswerOptions,
    LoadOptions,
    check_path,
    parse_load_options,
    parse_options,
)
from edge_et.pipeline import Request, manifest_sha256
from edge_et.threads import available_cpus

MAX_WORKERS: Final = MAX_THREADS

_LINES: Final = (".jsonl", ".ndjson")
_PARQUET: Final = ".parquet"

_NO_ANSWER_CHANGES: Final = (
    "threads",
    "image_cache_bytes",
    "image_kv_bytes",
    "max_images",
    "max_images_bytes",
    "max_kv_bytes",
    "contexts",
    "max_waiting",
    "cache_dir",
    "cache_bytes",
)
"""Options of a load that may differ when a run goes on."""

_QUESTION: Final = "?"  # stands for those of the rows where options are checked


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchProgress:
    """How far a run is.

    Attributes:
        phase: pictures are read, the bundle is loaded, or rows are answered.
        done: rows that are done, those of earlier runs included.
        total: all rows.
        rows_per_minute: rows that were answered a minute since the bundle was loaded; None: none.
    """

    phase: Literal["read", "load", "answer"]
    done: int
    total: int
    rows_per_minute: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSummary:
    """What came out of a run.

    Attributes:
        rows: all rows.
        found: those that were done before.
        answered: those that were answered now.
        failed: those of all rows that have an error.
        pictures: different ones, of all rows.
        skipped: files that are no pictures by their names.
        rows_per_minute: as for `BatchProgress`.
    """

    rows: int
    found: int
    answered: int
    failed: int
    pictures: int
    skipped: int
    rows_per_minute: float | None = None


OnBatchProgress = Callable[[BatchProgress], object]


def answer_all(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    question: str | None = None,
    model: str | os.PathLike[str] | None = None,
    workers: int = 1,
    retry_errors: bool = False,
    options: Mapping[str, object] | None = None,
    load_options: Mapping[str, object] | None = None,
    on_progress: OnBatchProgress | None = None,
) -> BatchSummary:
    """Answer questions about many pictures; called again after any end, go on.

    A row that cannot be answered has an error in its place. docs/batch.md tells what goes in and
    comes out.

    Args:
        inputs: folders, pictures, tables (.csv, .jsonl, .ndjson, .parquet), and patterns of files.
        out: a .jsonl, .ndjson or .parquet file; what the run is asked is noted beside it.
        question: of rows that bring none; None: the tables have them all.
        model: as for `edge_et.load`.
        workers: processes that answer, each with the bundle loaded.
        retry_errors: whether rows that have an error are asked again.
        options: of every call, as for `edge_et.answer`.
        load_options: as for `edge_et.load`; `threads` is those of each worker, None the CPUs of
            this process divided by the workers.
        on_progress: is called as the run goes on. What it raises ends the run.

    Raises:
        BatchInputError: the inputs are no pictures and questions.
        BatchOutputError: the output is another run's, or something else's, or cannot be written.
        WorkerEndedError: workers die while they load the bundle.
        MissingExtraError: Parquet, and pyarrow is not installed.
        EdgeETError: as for `edge_et.load`; an `OptionError` for what no row could be asked.
        OSError: the operating system refuses.
    """
    told = on_progress or (lambda progress: None)
    asked, opened = parse_options(options or {}), parse_load_options(load_options or {})
    _check(workers, question, asked)
    path = Path(check_path("out", out))
    is_parquet = path.suffix.lower() == _PARQUET
    if not is_parquet and path.suffix.lower() not in _LINES:
        raise OptionError("out", out, f"a file with one of {', '.join((*_LINES, _PARQUET))}")
    if path.is_symlink():  # so that a run by either name goes on with the other's
        path = Path(os.path.realpath(path))
    bundle = load_bundle(find_bundle(model))
    Request.of(question or _QUESTION, asked, bundle.manifest)
    given = [inputs] if isinstance(inputs, str | os.PathLike) else inputs
    found = read_inputs([check_path("inputs", each) for each in given], question)
    if is_parquet:
        schema = plan_schema(found.tables, value_type(asked))
    else:
        check_plain(found.tables)
    lines = path.with_name(f"{path.name}.rows.jsonl") if is_parquet else path
    request = _request(found, bundle, question, asked, opened)
    with Output(path, lines, request, len(found)) as output:
        groups = _read_pictures(found, told)
        if retry_errors:
            output.forget_failed()
        _check_unchanged(output, groups, path)
        before = len(output.done)
        run = _Run(found, groups, output, is_parquet, told)
        run.tell_unreadable()
        run.answer(_opening(bundle, asked, opened, workers), workers)
        if is_parquet and (len(output.done) > before or not path.exists()):
            with writing(path, "pyarrow"):
                write_parquet(path, schema, found.tables, found.asked, output.row)
        return BatchSummary(
            rows=len(found),
            found=before,
            answered=len(output.done) - before,
            failed=len(output.failed),
            pictures=len(groups.rows),
            skipped=found.skipped,
            rows_per_minute=run.rows_per_minute,
        )


class _Run:
    """What is left to do, and doing it."""

    def __init__(
        self,
        inputs: Inputs,
        groups: Groups,
        output: Output,
        is_parquet: bool,
        told: OnBatchProgress,
    ) -> None:
        self._inputs, self._groups, self._output = inputs, groups, output
        self._has_columns = not is_parquet
        self._told = told
        self._began_s: float | None = None
        self._last_s = 0.0
        self._answered = 0

    def tell_unreadable(self) -> None:
        """Write the rows whose pictures cannot be read."""
        for row, err in self._groups.errors.items():
            if row not in self._output.done:
                self._append(row, failed(err, None))

    def answer(self, opening: Opening, workers: int) -> None:
        """Answer all other rows."""
        count = sum(1 for _ in self._left())
        if not count:
            return
        self._tell("load")
        done = answers(self._tasks(), opening, min(workers, count), self._begin)
        with closing(done):
            for row, fields in done:
                self._append(row, fields)
                self._answered += 1
                self._last_s = monotonic()
                self._tell("answer")

    def _begin(self) -> None:
        self._began_s = monotonic()
        self._tell("answer")

    def _left(self) -> Iterator[tuple[str, list[int]]]:
        for sha256, rows in self._groups.rows.items():
            if left := [row for row in rows if row not in self._output.done]:
                yield sha256, left

    def _tasks(self) -> Iterator[Task]:
        # The picture is that of the first row left, so that those of a table come in its order.
        for sha256, rows in sorted(self._left(), key=lambda group: group[1][0]):
            yield Task(
                sha256=sha256,
                picture=self._inputs.picture(rows[0]),
                rows=tuple((row, self._inputs.question(row)) for row in rows),
            )

    def _append(self, row: int, fields: Mapping[str, Any]) -> None:
        columns = self._inputs.columns(row) if self._has_columns else {}
        self._output.append({"row": row, **columns, **fields})

    @property
    def rows_per_minute(self) -> float | None:
        """As for `BatchProgress`."""
        if self._began_s is None or not self._answered:
            return None
        return 60 * self._answered / max(self._last_s - self._began_s, 1e-6)

    def _tell(self, phase: Literal["load", "answer"]) -> None:
        self._told(
            BatchProgress(
                phase=phase,
                done=len(self._output.done),
                total=len(self._inputs),
                rows_per_minute=self.rows_per_minute,
            )
        )


def _check(workers: int, question: str | None, options: AnswerOptions) -> None:
    is_number = isinstance(workers, int) and not isinstance(workers, bool)
    if not is_number or not 1 <= workers <= MAX_WORKERS:
        raise OptionError("workers", workers, f"a whole number from 1 to {MAX_WORKERS}")
    if question is not None and not (isinstance(question, str) and question.strip()):
        raise OptionError("question", question, "a text that is not empty")
    if options.schema is not None and not isinstance(options.schema, Mapping):
        raise OptionError("schema", options.schema, "a JSON schema as a dict")


def value_type(options: AnswerOptions) -> str:
    """Return the type of ``value`` in Parquet and Arrow.

    Args:
        options: of every call.
    """
    return {"yes/no": "bool", "number": "double", None: "string"}[options.kind]


def _request(
    inputs: Inputs,
    bundle: Bundle,
    question: str | None,
    options: AnswerOptions,
    load_options: LoadOptions,
) -> dict[str, Any]:
    """Return what decides over the answers, by names that people know."""
    manifest = bundle.manifest
    of_load: dict[str, Any] = msgspec.to_builtins(load_options)
    return {
        "model": {
            "name": manifest.name,
            "version": manifest.version,
            "sha256": manifest_sha256(bundle),
        },
        "question": question,
        "input": {"rows": len(inputs), "sha256": inputs.sha256()},
        "options": _given(msgspec.to_builtins(options)),
        "load_options": {
            name: value for name, value in of_load.items() if name not in _NO_ANSWER_CHANGES
        },
    }


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _opening(
    bundle: Bundle, options: AnswerOptions, load_options: LoadOptions, workers: int
) -> Opening:
    threads = load_options.threads
    if threads is None and workers > 1:
        threads = max(1, available_cpus() // workers)
    return Opening(
        folder=bundle.folder,
        load_options=msgspec.to_builtins(load_options) | {"threads": threads},
        options=_given(msgspec.to_builtins(options)),
        # Comparing engines takes more memory than answers do.
        prepares=load_options.convert_weights and load_options.max_memory_bytes is None,
    )


def _read_pictures(inputs: Inputs, told: OnBatchProgress) -> Groups:
    total = len(inputs)
    return group(inputs, lambda done: told(BatchProgress(phase="read", done=done, total=total)))


def _check_unchanged(output: Output, groups: Groups, path: Path) -> None:
    for row, sha256 in output.done.items():
        if row not in output.failed and sha256 != groups.sha256[row]:
            reason = f"row {row} was answered about a picture that has changed, or is gone: put it "
            raise BatchOutputError(str(path), f"{reason}back, or name another file to begin anew")
