"""Many callers of one pipeline: threads and tasks, over one context and over several."""

import asyncio
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tiny.places import ROOT

import edge_et
from edge_et.errors import CancelledError, ClosedError, MemoryBudgetError, QueueFullError
from edge_et.native_threads import THREAD_PREFIX
from edge_et.pipeline import AsyncStream
from edge_et.results import Answer, Progress

CAT = ROOT / "examples" / "cat.png"
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


def test_a_load_that_is_cancelled_is_closed(
    tiny_pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = threading.Event()
    close = edge_et.ExtractThink.close

    def note(pipe: edge_et.ExtractThink) -> None:
        close(pipe)
        closed.set()

    async def leave() -> None:
        task = asyncio.create_task(edge_et.aload(tiny_pair, threads=1))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    monkeypatch.setattr(edge_et.ExtractThink, "close", note)
    asyncio.run(leave())
    assert closed.wait(60)


def test_an_error_that_somebody_keeps_holds_nothing(tiny_pair: Path) -> None:
    def leave(progress: Progress) -> None:
        if progress.phase == "prefill":
            raise LookupError("enough")

    with edge_et.load(tiny_pair, threads=1) as pipe, ThreadPoolExecutor(1) as threads:
        expected = words(pipe.answer(*TASKS[0]))
        kept = threads.submit(pipe.answer, *TASKS[1], on_progress=leave).exception()
        token = edge_et.CancelToken()
        stream = pipe.stream(*TASKS[2], cancel=token)
        next(stream)
        token.cancel()
        with pytest.raises(CancelledError) as also_kept:
            next(stream)
        assert words(pipe.answer(*TASKS[0])) == expected
        assert (str(kept), also_kept.type) == ("enough", CancelledError)


def test_an_async_stream_outlives_its_pipeline_with_an_error_of_ours(tiny_pair: Path) -> None:
    async def go_on(pipe: edge_et.ExtractThink) -> None:
        begun, fresh = pipe.astream(*TASKS[0]), pipe.astream(*TASKS[1])
        await anext(begun)
        pipe.close()
        for stream in (begun, fresh):
            with pytest.raises(ClosedError):
                await anext(stream)
            await stream.aclose()
            assert [event async for event in stream] == []

    asyncio.run(go_on(edge_et.load(tiny_pair, threads=1)))


def test_closing_an_async_stream_ends_the_step_that_another_task_waits_for(tiny_pair: Path) -> None:
    async def close_meanwhile(pipe: edge_et.ExtractThink) -> None:
        stream = pipe.astream(*TASKS[0])
        going = [asyncio.create_task(read_all(stream)) for _ in range(2)]
        await asyncio.sleep(0.01)
        await stream.aclose()
        ended = await asyncio.gather(*going, return_exceptions=True)
        assert all(one is None or isinstance(one, CancelledError) for one in ended)

    async def read_all(stream: AsyncStream) -> None:
        async for _ in stream:
            pass

    with edge_et.load(tiny_pair, threads=1, max_waiting=0) as pipe:
        asyncio.run(close_meanwhile(pipe))
        assert pipe.answer(*TASKS[0]).text


def test_a_program_ends_while_calls_of_its_loop_are_under_way(tiny_pair: Path) -> None:
    program = f"""
import asyncio, sys, threading
import edge_et
pipe = edge_et.load({str(tiny_pair)!r}, threads=1)
async def ask():
    await asyncio.gather(*(pipe.aanswer({str(CAT)!r}, "What is it?") for _ in range(20)))
threading.Thread(target=lambda: asyncio.run(ask()), daemon=True).start()
while not pipe._scheduler._waiting:
    pass
sys.exit(3)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (3, "")


def test_no_thread_stays(tiny_pair: Path) -> None:
    async def ask(pipe: edge_et.ExtractThink) -> None:
        await asyncio.gather(*(pipe.aanswer(*task) for task in TASKS[:8]))
        async for _ in pipe.astream(*TASKS[0]):
            break

    def calls() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name == f"{THREAD_PREFIX}call"]

    with edge_et.load(tiny_pair, threads=1) as pipe:
        asyncio.run(ask(pipe))
        gc.collect()
        end = time.monotonic() + 60
        while calls() and time.monotonic() < end:
            time.sleep(0.01)
        assert calls() == []
