"""Measure answers inside a worker. In: a job. Out: samples.

A phase is the time between two things that a program hears. The subject itself tells the times of
picture and tower, where it can tell them apart.
"""

from contextlib import closing
from itertools import pairwise
from pathlib import Path
from time import perf_counter

from edge_et.benchmarks.document import Measured, Sample
from edge_et.benchmarks.engines import open_subject
from edge_et.benchmarks.sensors import EnergyMeter
from edge_et.benchmarks.subject import Heard, Job, Subject
from edge_et.bundle import load_bundle
from edge_et.errors import BenchError
from edge_et.sensors import temperature_c


def measure(job: Job, import_s: float | None) -> Measured:
    """Do a job.

    Args:
        job: the job.
        import_s: what importing the engine took; belongs to a cold answer. None: it has no such
            phase.

    Raises:
        EdgeETError: the bundle cannot be opened or used by this engine, or does not fit the work.
    """
    start = perf_counter()
    opened = open_subject(load_bundle(Path(job.bundle)), job)
    load_s = perf_counter() - start
    second: tuple[Sample, ...] = ()
    with closing(opened) as subject:
        if job.warm:
            for number in (0, 1, 0):  # the first two warm it up
                first = _sample(subject, job, {}, number)
            second = (_sample(subject, job, {}, 1),)
        else:
            before = {} if import_s is None else {"import": import_s}
            first = _sample(subject, job, before | {"load": load_s}, 0)
        return Measured(
            first=(first,),
            second=second,
            peak_memory_bytes=subject.peak_memory_bytes(),
            versions=dict(subject.versions),
            models=tuple(subject.models),  # reads files, which the peak above has nothing of
        )


def _sample(subject: Subject, job: Job, before: dict[str, float], number: int) -> Sample:
    """Have one question answered.

    Args:
        subject: answers.
        job: the job.
        before: phases that came before it, and count.
        number: of the question; 0 is the first one about its picture.
    """
    meter = EnergyMeter()
    heard = subject.ask(job.work.questions[number], fresh=number == 0)
    energy_j = meter.joules()
    _check(heard, job)
    phases = before | dict(heard.seconds)
    marks = {
        "prefill": heard.extraction[0],
        "extract": heard.extraction[-1],
        "handover": heard.thinking[0],
        "think": heard.thinking[-1],
        "answer": heard.answered,
    }
    since = heard.asked + sum(heard.seconds.values())
    for phase, (begin, end) in zip(marks, pairwise((since, *marks.values())), strict=True):
        phases[phase] = end - begin
    earlier = sum(before.values())
    return Sample(
        phases_s=phases,
        first_extraction_s=earlier + heard.extraction[0] - heard.asked,
        first_thinking_s=earlier + heard.thinking[0] - heard.asked,
        total_s=earlier + heard.answered - heard.asked,
        tokens=heard.tokens,
        energy_j=energy_j,
        temperature_c=temperature_c(),
    )


def _check(heard: Heard, job: Job) -> None:
    """Refuse an answer of another length than the work has.

    Raises:
        BenchError: it has.
    """
    work = job.work
    written = len(heard.extraction), len(heard.thinking), heard.tokens.answer
    wanted = work.extraction_tokens, work.thinking_tokens, work.answer_tokens
    if written != wanted:
        raise BenchError(f"wrote {written} tokens in the three phases, not {wanted}")
