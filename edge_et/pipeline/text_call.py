"""One question without a picture: the reasoner answers it, as in any chat.

In: a request, models and a deadline. Out: an `Answer` with an empty extraction. Who asks is not
known here.
"""

from collections.abc import Generator
from dataclasses import replace

from edge_et.generation import Deadline
from edge_et.pipeline.context_fit import check_text_fits
from edge_et.pipeline.models import Models
from edge_et.pipeline.request import Request
from edge_et.pipeline.two_stage_call import complete_answer
from edge_et.results import Answer, Extraction, PhaseUsage, StageEvent
from edge_et.stages import Hint, confidence_of, think, thinking_prompt, timed


class TextCall:
    """A question without a picture, on its way.

    Attributes:
        request: what the caller wants.
    """

    def __init__(self, request: Request, deadline: Deadline) -> None:
        """Begin before the first step.

        Args:
            request: from `Request.without_picture`.
            deadline: when the answer has to be there.
        """
        self.request = request
        self._deadline = deadline

    def check_fits(self, models: Models) -> None:
        """Refuse the question before anything is evaluated.

        Args:
            models: who takes part.

        Raises:
            PromptTooLongError: the context is too short for the prompt and the budgets.
        """
        check_text_fits(models, self.request)

    def answer(self, models: Models) -> Generator[StageEvent, None, Answer]:
        """Write the answer, behind a thought if one is wanted.

        Args:
            models: who takes part.
        """
        chat_model, thinking = models.thinking_model, self.request.thinking
        prompt = thinking_prompt(chat_model, thinking, self.request.question, "", None)
        watch = self.request.new_watch()
        thought = yield from timed(think(chat_model, prompt, thinking, self._deadline, watch))
        if watch is not None:
            thought = replace(thought, confidence=confidence_of(thought, watch))
        usage = {"image": PhaseUsage(), "vision": PhaseUsage()}
        nothing = Extraction(text="", tokens=(), conversation=(), usage=PhaseUsage())
        return complete_answer(usage, Hint(text=""), nothing, thought)
