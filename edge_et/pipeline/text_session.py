"""Questions without a picture."""

from typing import Unpack

from edge_et.cancellation import CancelToken
from edge_et.keywords import OptionValues, TextValues, with_options
from edge_et.pipeline.asynchronous import AsyncStream
from edge_et.pipeline.job import Job, Jobs
from edge_et.pipeline.progress import OnProgress
from edge_et.pipeline.runner import Caller, Runner
from edge_et.pipeline.stream import Stream
from edge_et.results import Answer


class TextSession:
    """Questions without a picture, which the reasoner answers as in any chat.

    The prompt is `history`, and the question in the user's turn: no prompt of the bundle, no
    extraction, no answer marker. `Answer.extraction` is empty, and what it took is told under
    ``think``. Where an extraction is given, stage 2 answers instead, as in `ExtractThink.rethink`.
    """

    def __init__(self, runner: Runner, jobs: Jobs, extraction: str | None = None) -> None:
        """Keep who answers; `ExtractThink.text_session` does it.

        Args:
            runner: runs the calls.
            jobs: makes them.
            extraction: what stage 2 reads; None: the question is all there is.
        """
        self._runner = runner
        self._jobs = jobs
        self._extraction = extraction

    @with_options
    def answer(
        self,
        question: str,
        *,
        priority: int = 0,
        cancel: CancelToken | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[TextValues],
    ) -> Answer:
        """Answer a question; arguments and errors are as for `ExtractThink.answer`."""
        caller = Caller(priority=priority, cancel=cancel, on_progress=on_progress)
        return self._runner.run(self._job(question, {**options}), caller)

    @with_options
    async def aanswer(
        self,
        question: str,
        *,
        priority: int = 0,
        cancel: CancelToken | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[TextValues],
    ) -> Answer:
        """Answer a question in an asyncio program; see `ExtractThink.aanswer`."""
        caller = Caller(priority=priority, cancel=cancel, on_progress=on_progress)
        return await self._runner.run_async(self._job(question, {**options}), caller)

    @with_options
    def stream(
        self,
        question: str,
        *,
        priority: int = 0,
        cancel: CancelToken | None = None,
        **options: Unpack[TextValues],
    ) -> Stream:
        """Answer a question and tell what happens meanwhile; see `ExtractThink.stream`."""
        caller = Caller(priority=priority, cancel=cancel)
        return self._runner.stream(self._job(question, {**options}), caller)

    @with_options
    def astream(
        self,
        question: str,
        *,
        priority: int = 0,
        cancel: CancelToken | None = None,
        **options: Unpack[TextValues],
    ) -> AsyncStream:
        """Do as `stream` does in an asyncio program; see `ExtractThink.astream`."""
        caller = Caller(priority=priority, cancel=cancel)
        return self._runner.stream_async(self._job(question, {**options}), caller)

    def _job(self, question: str, options: OptionValues) -> Job[Answer]:
        if self._extraction is None:
            return self._jobs.answer_text(question, options)
        return self._jobs.rethink(question, self._extraction, options)
