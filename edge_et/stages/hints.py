"""Hints: what the perceiver is asked to pay special attention to.

In: a bundle's prompts, a question, and who may be asked. Out: the text for ``{hint}`` in the prompt
of stage 1. Where a caller gives the hint nobody is asked; otherwise it is the question itself, or
what the reasoner makes of it in one short generation.

The reasoner is asked in a cache of its own, also where it is the perceiver: the fixed words before
the question stay in it from call to call, and neither the picture in the perceiver's cache nor the
fixed words of stage 2 in the reasoner's have to make room.
"""

from dataclasses import dataclass, replace
from time import perf_counter

from edge_et.bundle import HintSpec, ThinkSpec
from edge_et.generation import Deadline, Late, Script, Speaker, greedy
from edge_et.llm import Segment, fill, system_turn, to_segments, user_turn
from edge_et.results import Cut, PhaseUsage
from edge_et.stages.thinking import thought_marks

PLACE = "{hint}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """What stands for ``{hint}``.

    Attributes:
        text: the hint; empty where the prompt has no place for it.
        usage: what it took; None: nobody was asked.
        cuts: what was cut, and why.
    """

    text: str
    usage: PhaseUsage | None = None
    cuts: tuple[Cut, ...] = ()


def fit_hint(template: str, hint: str) -> str:
    """Return a hint as it goes into its place: without a full stop if the prompt has one there.

    Args:
        template: the prompt of stage 1.
        hint: without white space around it.
    """
    if PLACE not in template:
        return ""
    return hint.removesuffix(".") if f"{PLACE}." in template else hint


def hint_prompt(
    speaker: Speaker, spec: HintSpec, think: ThinkSpec, question: str
) -> tuple[Segment, ...]:
    """Build the prompt that asks for a hint; a reasoner that marks thoughts is not to think.

    Args:
        speaker: who is asked.
        spec: how.
        think: how thoughts are marked.
        question: the question.
    """
    content = fill(spec.prompt, {"question": question})
    skip = think.thoughts.skip if think.thoughts else ""
    parts = [*system_turn(speaker.chat), *user_turn(speaker.chat, content, skip)]
    return to_segments(parts, speaker.tokenizer)


def ask_for_hint(
    speaker: Speaker,
    spec: HintSpec,
    think: ThinkSpec,
    question: str,
    *,
    deadline: Deadline,
    late: Late,
) -> Hint:
    """Let the reasoner say what the question depends on.

    The most probable tokens are taken, so that the same question has the same hint.

    Args:
        speaker: who is asked.
        spec: how.
        think: how thoughts are marked; a hint cannot hold the marks.
        question: the question; it is the hint as well if nothing is written.
        deadline: lends its clock.
        late: says when to cut the hint.
    """
    start = perf_counter()
    script = Script(speaker, hint_prompt(speaker, spec, think, question), deadline)
    cuts: tuple[Cut, ...] = (Cut("hint", "deadline"),)
    if script.read(late):
        marks = thought_marks(think, speaker.tokenizer)
        for _ in script.write(greedy, spec.max_hint_tokens, late, marks.__contains__):
            pass
        cuts = (Cut("hint", script.cut),) if script.cut else ()
    text = speaker.tokenizer.decode(script.tokens).strip() or question
    usage = replace(script.usage, seconds=perf_counter() - start)
    return Hint(text=text, usage=usage, cuts=cuts)
