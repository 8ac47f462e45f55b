"""The stages of an answer: hint, extraction, thinking, answering.

In: a chat model, a prompt with its budgets. Out: text as it is written, and a result as the
generator's return value. Callers, options and pictures are not known here.
"""

from edge_et.stages.answer_forms import AnswerCost, AnswerForm, FormedAnswer
from edge_et.stages.answering import FreeText
from edge_et.stages.choices import ChoiceForm, tell_choices
from edge_et.stages.confidence import Control, confidence_of, control
from edge_et.stages.direct import answer_at_once
from edge_et.stages.extraction import (
    extract,
    extraction_prompt,
    extraction_turns,
    image_prompt,
    told_conversation,
)
from edge_et.stages.hints import Hint, ask_for_hint, fit_hint, hint_prompt
from edge_et.stages.history import History
from edge_et.stages.json_answer import JsonForm
from edge_et.stages.looking_again import (
    BETWEEN_LOOKS,
    ask_for_missing,
    missing_prompt,
    with_further_look,
)
from edge_et.stages.numbers import NumberForm
from edge_et.stages.several_pictures import (
    RESERVED_EXTRACTION_TOKENS,
    extract_each,
    told_alone,
    told_together,
)
from edge_et.stages.thinking import RESERVED_ANSWER_TOKENS, Budget, Thinking, think, thinking_prompt
from edge_et.stages.timing import drain, timed

__all__ = [
    "BETWEEN_LOOKS",
    "RESERVED_ANSWER_TOKENS",
    "RESERVED_EXTRACTION_TOKENS",
    "AnswerCost",
    "AnswerForm",
    "Budget",
    "ChoiceForm",
    "Control",
    "FormedAnswer",
    "FreeText",
    "Hint",
    "History",
    "JsonForm",
    "NumberForm",
    "Thinking",
    "answer_at_once",
    "ask_for_hint",
    "ask_for_missing",
    "confidence_of",
    "control",
    "drain",
    "extract",
    "extract_each",
    "extraction_prompt",
    "extraction_turns",
    "fit_hint",
    "hint_prompt",
    "image_prompt",
    "missing_prompt",
    "tell_choices",
    "think",
    "thinking_prompt",
    "timed",
    "told_alone",
    "told_conversation",
    "told_together",
    "with_further_look",
]
