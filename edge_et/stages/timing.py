"""Running a stage: stages are generators that yield events and return a result.

In: a stage. Out: its result, or its events with the time spent inside it. Which stage it is, is not
known here.
"""

from collections.abc import Generator
from dataclasses import replace
from time import perf_counter
from typing import TypeVar

from edge_et.results import Extraction, PhaseUsage, Thought
from edge_et.stages.hints import Hint

E = TypeVar("E")
R = TypeVar("R")
Result = TypeVar("Result", Hint, Extraction, Thought)


def drain(events: Generator[object, None, R]) -> R:
    """Run a stage to its end and return its result."""
    while True:
        try:
            next(events)
        except StopIteration as stop:
            result: R = stop.value
            return result


def timed(events: Generator[E, None, Result]) -> Generator[E, None, Result]:
    """Pass a stage on, and put the time spent inside it into its result."""
    seconds = 0.0
    while True:
        start = perf_counter()
        try:
            event = next(events)
        except StopIteration as stop:
            seconds += perf_counter() - start
            result: Result = stop.value
            usage = replace(result.usage or PhaseUsage(), seconds=seconds)
            return replace(result, usage=usage)
        seconds += perf_counter() - start
        yield event
