"""Many callers of one pipeline: threads and tasks, over one context and over several."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import edge_et
from edge_et.errors import MemoryBudgetError, QueueFullError
from edge_et.results import Answer, Progress

IMAGES = [
    np.random.default_rng(seed).integers(0, 256, (40, 40 + seed, 3), np.uint8) for seed in range(4)
]
TASKS = [(IMAGES[number % 4], f"How many things of kind {number % 8}?") for number in range(32)]


def words(answer: object) -> tuple[str, str, str, dict[str, str]]:
    assert isinstance(answer, Answer)
    return answer.extraction, answer.reasoning, answer.text, dict(answer.finish_reasons)


@pytest.fixture(scope="module")
def expected(tiny_pair: Path) -> list[tuple[str, str, str, dict[str, str]]]:
    with edge_et.load(tiny_pair, threads=1) as pipe:
        return [words(pipe.answer(*task)) for task in TASKS]


@pytest.fixture(scope="module", params=[1, 3])
def pipe(tiny_pair: Path, request: pytest.FixtureRequest) -> Iterator[edge_et.ExtractThink]:
    with edge_et.load(tiny_pair, threads=1, contexts=request.param) as pipe:
        yield pipe


def test_threads_get_the_answers_of_calls_one_by_one(
    pipe: edge_et.ExtractThink, expected: list[object]
) -> None:
    def ask(number: int) -> object:
        image, question = TASKS[number]
        priority = number % 3
        if number % 2:
            *_, answer = pipe.stream(image, question, priority=priority)
            return words(answer)
        return words(pipe.answer(image, question, priority=priority))

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(len(TASKS)))) == expected


def test_tasks_get_the_answers_of_calls_one_by_one(
    pipe: edge_et.ExtractThink, expected: list[object]
) -> None:
    async def ask(number: int) -> object:
        image, question = TASKS[number]
        if number % 2:
            return words([event async for event in pipe.astream(image, question)][-1])
        return words(await pipe.aanswer(image, question, priority=number % 3))

    async def ask_all() -> list[object]:
        return await asyncio.gather(*map(ask, range(len(TASKS))))

    assert asyncio.run(ask_all()) == expected


def test_a_stream_goes_from_thread_to_thread(
    pipe: edge_et.ExtractThink, expected: list[object]
) -> None:
    with ThreadPoolExecutor(4) as threads:
        stream = pipe.stream(*TASKS[0])
        event = None
        while not isinstance(event, Answer):
            event = threads.submit(next, stream).result()
    assert words(event) == expected[0]


def test_a_question_finds_the_context_that_knows_its_picture(tiny_pair: Path) -> None:
    with edge_et.load(tiny_pair, threads=1, contexts=3) as pipe:
        for image in IMAGES[:3]:
            pipe.answer(image, "What is it?")
        for image in (*IMAGES[:3], *reversed(IMAGES[:3])):
            usage = pipe.answer(image, "How many?").usage["extract"]
            assert usage.reused_tokens >= 16
            assert usage.evaluated_tokens < 16 + 30


def test_more_contexts_are_more_memory_that_is_told_before(tiny_pair: Path) -> None:
    with pytest.raises(MemoryBudgetError) as one:
        edge_et.load(tiny_pair, max_kv_bytes=1)
    with pytest.raises(MemoryBudgetError) as three:
        edge_et.load(tiny_pair, max_kv_bytes=3 * one.value.needed_bytes - 1, contexts=3)
    assert three.value.needed_bytes == 3 * one.value.needed_bytes


def test_a_server_that_is_full_refuses_at_once(tiny_pair: Path) -> None:
    async def ask_five(pipe: edge_et.ExtractThink) -> list[object]:
        calls = [pipe.aanswer(*TASKS[0]) for _ in range(5)]
        return await asyncio.gather(*calls, return_exceptions=True)

    with edge_et.load(tiny_pair, threads=1, max_waiting=2) as pipe:
        ended = asyncio.run(ask_five(pipe))
        assert [isinstance(one, QueueFullError) for one in ended] == [False] * 3 + [True] * 2
        assert words(pipe.answer(*TASKS[0])) == words(ended[0])


def test_a_task_is_told_how_far_its_call_is_in_its_own_thread(tiny_pair: Path) -> None:
    import threading

    told: list[tuple[int, Progress]] = []

    def note(progress: Progress) -> None:
        told.append((threading.get_ident(), progress))

    async def ask() -> None:
        async with asyncio.timeout(60):
            with await edge_et.aload(tiny_pair, threads=1) as pipe:
                await pipe.aanswer(*TASKS[0], on_progress=note)
                await asyncio.sleep(0)

    asyncio.run(ask())
    assert {thread for thread, _ in told} == {threading.get_ident()}
    assert [progress.phase for _, progress in told][:2] == ["encode", "prefill"]


def test_a_stream_that_is_left_early_lets_the_next_one_in(tiny_pair: Path) -> None:
    async def leave(pipe: edge_et.ExtractThink) -> None:
        async with pipe.astream(*TASKS[0]) as events:
            async for _ in events:
                break
        stream = pipe.astream(*TASKS[1])
        async for _ in stream:
            break
        await stream.aclose()
        assert [event async for event in stream] == []

    with edge_et.load(tiny_pair, threads=1) as pipe:
        asyncio.run(leave(pipe))
        assert pipe.answer(*TASKS[0]).text


def test_a_load_that_is_cancelled_is_closed(tiny_pair: Path) -> None:
    async def leave() -> None:
        task = asyncio.create_task(edge_et.aload(tiny_pair, threads=1))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
