"""The prompts, budgets and sampling of the paper's two stages, as a bundle holds them.

In: the models of both stages. Out: the specs of both stages, fitted into their contexts.

Source: the released code of arXiv 2511.17487 (github.com/markendo/downscaling_intelligence, commit
e9635aa); the hint's prompt and the closing of a thought are not in it. It asks for the letter of an
option, since the paper's benchmarks are multiple choice. A bundle asks so where a call has choices,
and otherwise in the same words without the letter. The paper's protocol asks for a letter always.
"""

from dataclasses import dataclass
from typing import Final

from edge_et.bundle import (
    ChatSpec,
    ChoicesSpec,
    DirectSpec,
    ExtractSpec,
    HintSpec,
    Sampling,
    ThinkSpec,
    ThoughtSpec,
)
from edge_et.export.chat.llm_chat_format import ThoughtTokens
from edge_et.export.errors import AssemblyError
from edge_et.llm import Tokenizer, count_positions, fill, system_turn, to_segments, user_turn

EXTRACT_WORDS: Final = (
    "Describe the fine-grained content of the image, including scenes, objects, "
    "relationships, instance location, and any text present. Especially, pay attention to {hint}."
)
HINT_WORDS: Final = (
    "Somebody will describe an image, so that the question below can be answered from the "
    "description alone. Tell in one short phrase which visual details the description must pay "
    "attention to. Do not answer the question, and write nothing but the phrase.\n\n{question}"
)
FIELDS_SYSTEM: Final = "{hint}"
FIELD_OF_A_QUESTION: Final = "answer: {question}"
"""A model that writes down fields has a list of them as its system turn, one a line with its name
and what it means, and the picture alone as the user's turn. It writes a JSON object.

Source: the model card of LiquidAI/LFM2.5-VL-450M-Extract.
"""

FIELDS_HINT_WORDS: Final = (
    "Somebody will fill in a form about an image, so that the question below can be answered from "
    "the form alone. List the fields of the form, at most four, one a line, each as a name in "
    "lower case, a colon, and what has to be looked for. Do not answer the question, and write "
    "nothing but the list.\n\n{question}"
)
FIELDS_HINT_TOKENS: Final = 96
"""Budget of such a list, tokens."""

THINK_WORDS: Final = (
    "You are an excellent text-based reasoning expert. You are required to answer the question "
    "based on the detailed description of the image.\n\n"
    "Description: {extraction}\nQuestion: {question}"
)
CONTINUED_WORDS: Final = "Question: {question}"
"""Where the model that saw goes on in the same conversation; not in the paper, as are all bundles
of one model."""

OPTIONS_WORDS: Final = "\nOptions: {choices}"
"""Source: the questions of MMStar, which end so, with the options as `ChoicesSpec` has them."""

LETTER_TAIL: Final = (
    '\nAnswer directly with the option\'s letter in the format of "Answer:". '
    'Do not add anything other than the letter answer after "Answer:".'
)
REASONED_LETTER_TAIL: Final = (
    "\nPlease reason step by step, and give the final answer on the last line by itself in the "
    'format of "Answer:". Do not add anything other than the letter answer after "Answer:".'
)
OPEN_TAIL: Final = (
    '\nAnswer directly in the format of "Answer:". '
    'Do not add anything other than the answer after "Answer:".'
)
REASONED_OPEN_TAIL: Final = REASONED_LETTER_TAIL.replace("letter answer", "answer")
ANSWER_MARKER: Final = "Answer:"
CLOSING: Final = (
    "\n\nConsidering the limited time by the user, I have to give the solution based on the "
    "thinking directly now.\n"
)
"""Source: the Qwen3 technical report (arXiv 2505.09388), thinking budget."""

GREEDY: Final = Sampling(temperature=0.0)
"""Of extractions, and of whatever a model writes that was not tuned to describe: the examples on
the cards of SmolVLM and InternVL sample nothing."""

ANSWER_SAMPLING: Final = Sampling(temperature=0.7, top_p=0.8, top_k=20)
THOUGHT_SAMPLING: Final = Sampling(temperature=0.6, top_p=0.95, top_k=20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """Most tokens that are written unless a call says otherwise.

    Attributes:
        hint: by the reasoner, before stage 1.
        extraction: by the perceiver.
        thought: by a reasoner that marks its thoughts.
        prose: before the answer marker, by one that does not.
        answer: behind the marker.
        spare: positions of each context beyond all that, for a call that wants more of something:
            earlier turns, a longer thought, three more pictures.
    """

    hint: int
    extraction: int
    thought: int
    prose: int
    answer: int
    spare: int


PAPER_BUDGETS: Final = Budgets(
    hint=64, extraction=1024, thought=4096, prose=1024, answer=1024, spare=0
)
DEFAULT_BUDGETS: Final = Budgets(
    hint=32, extraction=256, thought=256, prose=256, answer=96, spare=768
)
"""A minute of writing on a Raspberry Pi 5, for the paper's pair of a 0.6B and a 1.7B in Q4_K_M.

Estimated and not measured: each token reads all weights, 0.4 and 1.1 GB, and of the 17 GB/s that
32 bits of LPDDR4X-4267 could give some 9 arrive. So the perceiver writes 20 tokens a second and the
reasoner 8: (32 + 256 + 96) / 8 s + 256 / 20 s = 61 s. Looking at the picture comes on top.
"""

QUESTION_TOKENS: Final = 256
"""Room for a question and its options in a context."""

LEAST_THINKING_TOKENS: Final = 256
"""A context that leaves less for thinking is refused."""

MARKER_TOKENS: Final = 64
"""Room for what is put in: the closing of a thought, the answer marker."""

THINKING_PARAMETERS: Final = 1_000_000_000
"""Parameters below which a reasoner neither thinks unless asked, nor is asked for a hint: a 0.6B
gains nothing from thinking."""
_STEP = 256  # contexts are multiples of it


@dataclass(frozen=True, slots=True, kw_only=True)
class StageModel:
    """What prompts and contexts need to know about the language model of a stage.

    Attributes:
        chat: how to talk to it.
        tokenizer: the bundle's.
        parameters: how many weights it has.
        longest: positions that it was made for.
        thoughts: the special tokens around a thought; None: it has none.
        image_prefix: what a user's turn begins with that shows a picture: `{image}`, and what
            stands between it and the words.
        text_prefix: what another turn of the user begins with.
        between_pictures: what stands between two pictures of one turn.
        extract_words: what asks for a description.
        describes: whether it was tuned to describe a picture for a question.
        writes_fields: whether it was tuned to write down fields; see `FIELDS_SYSTEM`.
    """

    chat: ChatSpec
    tokenizer: Tokenizer
    parameters: int
    longest: int
    thoughts: ThoughtTokens | None = None
    image_prefix: str = ""
    text_prefix: str = ""
    between_pictures: str = ""
    extract_words: str = EXTRACT_WORDS
    describes: bool = True
    writes_fields: bool = False

    @property
    def thinks(self) -> bool:
        """Whether it is large enough to gain from thinking."""
        return self.parameters >= THINKING_PARAMETERS

    def positions(self, prompt: str, system: str = "") -> int:
        """Count the positions of a prompt with its turns, its places empty."""
        places = dict.fromkeys(("question", "choices", "extraction", "hint"), "")
        empty = fill(prompt.replace("{image}", ""), places)
        told = fill(system, places) if system else ""
        parts = [*system_turn(self.chat, told), *user_turn(self.chat, empty)]
        return count_positions(to_segments(parts, self.tokenizer))


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoStages:
    """What a bundle says about its stages.

    Attributes:
        extract: stage 1.
        think: stage 2.
        direct: the baseline of one stage.
        perceiver_context: positions that the perceiver needs.
        reasoner_context: positions that the reasoner needs; None: there is none.
    """

    extract: ExtractSpec
    think: ThinkSpec
    direct: DirectSpec
    perceiver_context: int
    reasoner_context: int | None


def plan_stages(
    perceiver: StageModel,
    reasoner: StageModel | None,
    image_tokens: int,
    limit: int | None,
    *,
    paper_protocol: bool = False,
) -> TwoStages:
    """Write the specs of both stages, and find the contexts that hold them.

    Args:
        perceiver: the model that sees.
        reasoner: the model that thinks; None: the perceiver does.
        image_tokens: most that a picture can have.
        limit: most positions of a context; thinking gets what is left. None: as many as the
            budgets need.
        paper_protocol: whether every question asks for the letter of an option, within the
            budgets of the paper's benchmarks.

    Raises:
        AssemblyError: a context does not hold a picture, an extraction and a short thought.
    """
    thinking_model = reasoner or perceiver
    special = thinking_model.thoughts if reasoner is not None else None
    words = thinking_model.text_prefix + (CONTINUED_WORDS if reasoner is None else THINK_WORDS)
    reasons_in_words = special is None and thinking_model.thinks
    letter_tail = REASONED_LETTER_TAIL if reasons_in_words else LETTER_TAIL
    tail = REASONED_OPEN_TAIL if reasons_in_words else OPEN_TAIL
    reasoned_tail = REASONED_OPEN_TAIL
    if paper_protocol:
        tail, reasoned_tail = letter_tail, REASONED_LETTER_TAIL
    choices = ChoicesSpec(
        prompt=words + OPTIONS_WORDS + letter_tail,
        thoughts_prompt=words + OPTIONS_WORDS + REASONED_LETTER_TAIL if special else None,
    )
    extract_words = EXTRACT_WORDS if paper_protocol else perceiver.extract_words
    fields = perceiver.writes_fields and not paper_protocol
    system = FIELDS_SYSTEM if fields else None
    shown = perceiver.image_prefix + ("" if fields else extract_words)

    answers_alone = reasoner is None and not perceiver.describes and not paper_protocol
    budgets = PAPER_BUDGETS if paper_protocol else DEFAULT_BUDGETS
    seen = (
        perceiver.positions(shown, system or "")
        + QUESTION_TOKENS
        + image_tokens
        + budgets.extraction
    )
    # The longest prompt of stage 2.
    asked = thinking_model.positions(words + OPTIONS_WORDS + REASONED_LETTER_TAIL)
    asked += QUESTION_TOKENS + MARKER_TOKENS + budgets.answer
    before = asked + (seen if reasoner is None else budgets.extraction)
    wanted = budgets.thought if special else budgets.prose
    room = _context(thinking_model, before + wanted + budgets.spare, limit)
    thinking = min(wanted, room - before)
    perceiver_room = room if reasoner is None else _context(perceiver, seen + budgets.spare, limit)
    if thinking < LEAST_THINKING_TOKENS or perceiver_room < seen:
        least = max(seen, before + LEAST_THINKING_TOKENS)
        short = perceiver_room if perceiver_room < seen else room
        raise AssemblyError(
            f"a context of {short} tokens is too short: {image_tokens} image "
            f"tokens, prompts and budgets need {least}; allow more, or fewer tiles a picture"
        )
    return TwoStages(
        extract=ExtractSpec(
            prompt=shown,
            max_extraction_tokens=budgets.extraction,
            sampling=GREEDY,
            between_pictures=perceiver.between_pictures,
            system=system,
            hint=None
            if reasoner is None or not reasoner.thinks
            else HintSpec(
                prompt=reasoner.text_prefix + (FIELDS_HINT_WORDS if fields else HINT_WORDS),
                max_hint_tokens=FIELDS_HINT_TOKENS if fields else budgets.hint,
            ),
            default_hint=FIELD_OF_A_QUESTION if fields else "{question}",
        ),
        think=ThinkSpec(
            prompt=words + tail,
            max_thinking_tokens=min(thinking, budgets.prose),
            answer_marker=ANSWER_MARKER,
            max_answer_tokens=budgets.answer,
            sampling=GREEDY if answers_alone else ANSWER_SAMPLING,
            thoughts=None
            if special is None
            else ThoughtSpec(
                start=special.start,
                end=special.end,
                start_suffix=special.opening.removeprefix(special.start),
                skip=special.skip,
                closing=CLOSING,
                default=thinking_model.thinks or not special.optional,
                prompt=words + reasoned_tail,
                max_thinking_tokens=thinking,
                sampling=THOUGHT_SAMPLING,
            ),
            choices=choices,
        ),
        direct=DirectSpec(
            prompt=perceiver.image_prefix + "{question}",
            max_answer_tokens=budgets.answer,
            default=answers_alone,
        ),
        perceiver_context=perceiver_room,
        reasoner_context=None if reasoner is None else room,
    )


def _context(model: StageModel, wanted: int, limit: int | None) -> int:
    rounded = -(-wanted // _STEP) * _STEP
    return min(rounded, model.longest, limit or rounded)
