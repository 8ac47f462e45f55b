"""Calls that are cancelled at any moment, and the answers after them."""

import asyncio
import itertools
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny.memory import resident_bytes
from tiny.places import ROOT
from tiny.split_mini import build_split_mini

import edge_et
from edge_et.errors import CancelledError
from edge_et.image import VisionTower
from edge_et.results import Answer, AnswerToken, Progress

CAT = ROOT / "examples" / "cat.png"
QUESTION = "Is there a dog?"
MOMENTS = {
    "tower": ("vision", "encode"),
    "prefill": ("extract", "prefill"),
    "extraction": ("extract", "decode"),
    "thinking": ("think", "decode"),
    "answer": ("answer", "decode"),  # see `Cancelling.cancel_at`
}
PATIENCE_S = 60.0


def words(answer: Answer) -> tuple[str, str, str]:
    return answer.extraction, answer.reasoning, answer.text


def equal(pipe: edge_et.ExtractThink, expected: Answer) -> Answer:
    """Ask again, and compare with what a fresh pipeline says."""
    found = pipe.answer(CAT, QUESTION)
    assert words(found) == words(expected)
    assert found.finish_reasons == expected.finish_reasons
    return found


class Cancelling:
    """Cancels calls of one pipeline at chosen moments.

    Attributes:
        met: how many calls were cancelled, by moment.
    """

    def __init__(self, bundle: Path | None, seed: int = 1) -> None:
        self.pipe = edge_et.load(bundle, use_profile=False)
        self.fresh = self.pipe.answer(CAT, QUESTION)
        self.met: Counter[str] = Counter()
        self._random = np.random.default_rng(seed)

    def cancel_at(self, moment: str) -> None:
        """Cancel a call within a step of its kind, or soon after; then ask again."""
        if moment in ("tower", "prefill"):
            self.pipe.clear()
        token = edge_et.CancelToken()
        longest_s = 0.1 if moment in ("tower", "prefill") else 0.004
        timer = threading.Timer(self._random.uniform(0, longest_s), token.cancel)
        armed: list[str] = []

        def arm(progress: Progress) -> None:
            if (progress.stage, progress.phase) == MOMENTS[moment] and not armed:
                armed.append(moment)
                timer.start()

        try:
            if moment == "answer":  # of a token or two, too short for a note of progress
                for event in self.pipe.stream(CAT, QUESTION, cancel=token):
                    if isinstance(event, AnswerToken) and not armed:
                        armed.append(moment)
                        timer.start()
            else:
                self.pipe.answer(CAT, QUESTION, cancel=token, on_progress=arm)
        except CancelledError:
            self.met[moment] += 1
        if armed:
            timer.join()
        picture = 126 if moment not in ("tower", "prefill") else 0
        assert equal(self.pipe, self.fresh).usage["extract"].reused_tokens >= picture


def cancel_often(cancelling: Cancelling, moments: tuple[str, ...], times: int) -> None:
    for moment in moments:
        for _ in itertools.takewhile(lambda _: cancelling.met[moment] < times, range(4 * times)):  # noqa: B023
            cancelling.cancel_at(moment)
    assert all(cancelling.met[moment] >= times for moment in moments), cancelling.met


@pytest.fixture(scope="module")
def split_mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "split"
    build_split_mini(folder)
    return folder


@pytest.fixture(scope="module")
def split(split_mini: Path):
    cancelling = Cancelling(split_mini)
    yield cancelling
    cancelling.pipe.close()


def test_a_cancelled_call_leaves_the_next_answer_as_it_is(split: Cancelling) -> None:
    cancel_often(split, tuple(MOMENTS), 1)


@pytest.mark.slow
def test_hundreds_of_cancelled_calls_leave_no_memory(split: Cancelling) -> None:
    cancel_often(split, tuple(MOMENTS), 8)
    before = resident_bytes()
    split.met.clear()
    cancel_often(split, tuple(MOMENTS), 34)
    assert split.met.total() >= 200
    assert resident_bytes() < before * 1.05


@pytest.fixture
def pair(tiny_pair: Path):
    with edge_et.load(tiny_pair, threads=1) as pipe:
        yield pipe


def test_a_call_is_cancelled_between_any_two_steps(pair: edge_et.ExtractThink) -> None:
    """Every event of a call in turn: 50 and more, of all stages."""
    image = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
    question = "What is on the table?"
    expected = words(pair.answer(image, question))
    seen: Counter[tuple[str, str]] = Counter()
    for count in itertools.count():
        if count % 3 == 0:
            pair.clear()
        token = edge_et.CancelToken()
        with pair.stream(image, question, cancel=token) as stream:
            events = list(itertools.islice(stream, count + 1))
            if isinstance(events[-1], Answer):
                break
            if isinstance(last := events[-1], Progress):
                seen[last.stage, last.phase] += 1
            token.cancel()
            with pytest.raises(CancelledError):
                next(stream)
            assert list(stream) == []
        assert words(pair.answer(image, question)) == expected
    assert count >= 50
    assert set(seen) >= {("vision", "encode"), ("extract", "prefill"), ("think", "prefill")}


def test_a_token_that_is_cancelled_already_lets_nothing_begin(pair: edge_et.ExtractThink) -> None:
    token = edge_et.CancelToken()
    token.cancel()
    for _ in range(2):
        with pytest.raises(CancelledError, match="another CancelToken"):
            pair.answer(np.zeros((8, 8, 3), np.uint8), "A?", cancel=token)


@pytest.fixture
def mini(split: Cancelling) -> tuple[edge_et.ExtractThink, Answer]:
    return split.pipe, split.fresh


def interrupted(call: Callable[[], object], after_s: float) -> bool:
    """Call, and say whether a signal's handler ended it."""

    def handler(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, after_s)
        call()
    except KeyboardInterrupt:
        return True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return False


def test_ctrl_c_ends_a_call_in_the_middle_of_a_step(mini) -> None:
    pipe, expected = mini
    for after_s in (0.02, 0.15, 0.4):
        pipe.clear()
        assert interrupted(lambda: pipe.answer(CAT, QUESTION), after_s)
        equal(pipe, expected)


def test_a_stream_is_closed_from_another_thread_in_the_middle_of_a_step(mini) -> None:
    pipe, expected = mini
    for at in (MOMENTS["tower"], MOMENTS["prefill"]):
        pipe.clear()
        stream = pipe.stream(CAT, QUESTION)
        begun, ended = threading.Event(), []

        def go_on() -> None:
            try:
                for event in stream:  # noqa: B023
                    if isinstance(event, Progress) and (event.stage, event.phase) == at:  # noqa: B023
                        begun.set()  # noqa: B023
            except CancelledError as err:
                ended.append(err)  # noqa: B023

        thread = threading.Thread(target=go_on)
        thread.start()
        assert begun.wait(PATIENCE_S)
        time.sleep(0.01)  # the step has begun most likely; if not, it is closed before
        stream.close()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        assert next(stream, None) is None
        equal(pipe, expected)


def test_a_task_that_is_cancelled_ends_its_call_before_itself(mini) -> None:
    pipe, expected = mini

    async def cancel_after(seconds: float) -> None:
        task = asyncio.create_task(pipe.aanswer(CAT, QUESTION))
        await asyncio.sleep(seconds)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # Nothing goes on behind its back: the next call does not wait.
        assert pipe._scheduler._inside == []

    for seconds in (0.0, 0.05, 0.4):
        pipe.clear()
        asyncio.run(cancel_after(seconds))
        equal(pipe, expected)


def test_a_stream_of_a_cancelled_task_is_over(mini) -> None:
    pipe, expected = mini

    async def go_on(begun: asyncio.Event) -> None:
        async for event in pipe.astream(CAT, QUESTION):
            if isinstance(event, Progress) and event.phase == "decode":
                begun.set()

    async def cancel() -> None:
        begun = asyncio.Event()
        task = asyncio.create_task(go_on(begun))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    equal(pipe, expected)


def test_a_tower_that_is_stopped_has_not_failed(mini, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, expected = mini
    pipe.clear()
    token = edge_et.CancelToken()
    encode = VisionTower.encode

    def cancel_then_encode(*args: object) -> object:
        token.cancel()
        return encode(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(VisionTower, "encode", cancel_then_encode)
        with pytest.raises(CancelledError):
            pipe.answer(CAT, QUESTION, cancel=token)
    equal(pipe, expected)


def test_what_llama_cpp_says_of_it_is_no_error(mini, caplog: pytest.LogCaptureFixture) -> None:
    pipe, _ = mini
    pipe.clear()
    token = edge_et.CancelToken()

    def cancel_soon(progress: Progress) -> None:
        if progress.phase == "prefill":
            threading.Timer(0.02, token.cancel).start()

    with pytest.raises(CancelledError):
        pipe.answer(CAT, QUESTION, cancel=token, on_progress=cancel_soon)
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []
