"""Measuring answers inside a worker: from a job to samples.

Phases are the times between the events of `ExtractThink.stream`, as a program sees them; those of
picture and tower are told by the answer's usage.
"""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from msgspec import Struct

from edge_et.benchmarks.document import Measured, Sample, Tokens, Work
from edge_et.benchmarks.engines import Engine, Opened, open_bundle
from edge_et.benchmarks.sensors import EnergyMeter, peak_memory_bytes, temperature_c
from edge_et.bundle import load_bundle
from edge_et.errors import BenchError
from edge_et.results import Answer, AnswerToken, ExtractionToken, ReasoningToken


class Job(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one process is to do.

    Attributes:
        bundle: its folder.
        threads: threads of tower and language models.
        reuse: whether KV caches and image tokens are kept from stage to stage and from question to
            question.
        samples: of a warm process, behind one pass that does not count; 0: one question to a cold
            one.
        work: the same for every configuration.
    """

    bundle: str
    threads: int
    reuse: bool
    samples: int
    work: Work


def measure(job: Job, engine: Engine, import_s: float) -> Measured:
    """Do a job.

    Args:
        job: the job.
        engine: what runs the language models.
        import_s: what importing the engine took; belongs to a cold answer.

    Raises:
        EdgeETError: the bundle cannot be opened or used by this engine, or does not fit the work.
    """
    start = perf_counter()
    opened = open_bundle(
        load_bundle(Path(job.bundle)), engine, job.threads, job.work, reuse=job.reuse
    )
    load_s = perf_counter() - start
    first: list[Sample] = []
    second: list[Sample] = []
    with opened.pipeline as pipeline:
        if not job.samples:
            before = {"import": import_s, "load": load_s}
            first.append(_ask(opened, job, job.work.questions[0], before))
        for index in range(job.samples + 1 if job.samples else 0):
            pipeline.clear()
            samples = []
            for question in job.work.questions:
                if not job.reuse:
                    pipeline.clear()
                samples.append(_ask(opened, job, question, {}))
            if index:  # the pass before warms up
                first.append(samples[0])
                second.append(samples[1])
    return Measured(first=tuple(first), second=tuple(second), peak_memory_bytes=peak_memory_bytes())


def _ask(opened: Opened, job: Job, question: str, before: dict[str, float]) -> Sample:
    """Answer one question.

    Args:
        opened: the bundle.
        job: the job.
        question: the question.
        before: phases that came before it, and count.
    """
    for context in opened.contexts:
        context.rewind()
    meter = EnergyMeter()
    forget = (lambda: None) if job.reuse else opened.forget_prompts
    start = perf_counter()
    times, answer = _listen(opened, job.work, question, forget)
    end = perf_counter()
    extraction, reasoning = times[ExtractionToken], times[ReasoningToken]
    usage = answer.usage
    until_tokens = usage["image"].seconds + usage["vision"].seconds
    phases = before | {
        "image": usage["image"].seconds,
        "vision": usage["vision"].seconds,
        "prefill": extraction[0] - start - until_tokens,
        "extract": extraction[-1] - extraction[0],
        "handover": reasoning[0] - extraction[-1],
        "think": reasoning[-1] - reasoning[0],
        "answer": end - reasoning[-1],
    }
    earlier = sum(before.values())
    return Sample(
        phases_s=phases,
        first_extraction_s=earlier + extraction[0] - start,
        first_thinking_s=earlier + reasoning[0] - start,
        total_s=earlier + end - start,
        tokens=Tokens(
            image=usage["vision"].evaluated_tokens + usage["vision"].reused_tokens,
            prompt_evaluated=usage["extract"].evaluated_tokens,
            prompt_reused=usage["extract"].reused_tokens,
            extraction=len(extraction),
            handover_evaluated=usage["think"].evaluated_tokens,
            handover_reused=usage["think"].reused_tokens,
            thinking=len(reasoning),
            answer=len(times[AnswerToken]),
        ),
        energy_j=meter.joules(),
        temperature_c=temperature_c(),
    )


def _listen(
    opened: Opened, work: Work, question: str, forget: Callable[[], None]
) -> tuple[dict[type, list[float]], Answer]:
    """Return when each event of an answer came, by its kind, and the answer.

    Args:
        opened: the bundle.
        work: picture and numbers of tokens.
        question: the question.
        forget: called between the stages.

    Raises:
        BenchError: other numbers of tokens were written than the script has.
    """
    times: dict[type, list[float]] = {ExtractionToken: [], ReasoningToken: [], AnswerToken: []}
    events = opened.pipeline.stream(
        work.picture,
        question,
        max_extraction_tokens=work.extraction_tokens,
        max_thinking_tokens=work.thinking_tokens,
        max_answer_tokens=work.answer_tokens,
        temperature=0.0,
    )
    for event in events:
        if isinstance(event, Answer):
            written = tuple(len(found) for found in times.values())
            wanted = (work.extraction_tokens, work.thinking_tokens, work.answer_tokens)
            if written != wanted:
                raise BenchError(f"wrote {written} tokens in the three phases, not {wanted}")
            return times, event
        times[type(event)].append(perf_counter())
        if isinstance(event, ExtractionToken) and (
            len(times[ExtractionToken]) == work.extraction_tokens
        ):
            forget()
    raise AssertionError("a stream ends with an answer")
