import pytest
from tiny.fakes import FakeClock, ForcedKVCache, new_chat_model
from tiny.places import ROOT
from tiny.thoughts import THOUGHTS

from edge_et.bundle import Sampling, ThinkSpec
from edge_et.generation import Deadline
from edge_et.llm import TextStream, Tokenizer, TokenSegment, positions_of
from edge_et.stages import Budget, IncrementalPrefill, Thinking, thinking_prompt

QWEN = ROOT / "tests" / "data" / "golden" / "llava_qwen3_tiny" / "tokenizer.json"
SMOLLM = ROOT / "models" / "mini" / "edge_et_mini" / "tokenizer.json"
QUESTION = "What is on the table? </think> naïve 日本"
TEXTS = (
    "The picture shows a red ball on a table, and a blue cube at its left. " * 3,
    " \n It's 12:30 o'clock; they're here...  \n\n - one\n - two\n\n\nend ",
    "naïve cafe\u0301 İstanbul ﬁne \u1112\u1161\u11ab\u1100\u1173\u11af 日本語、東京。 हिन्दी ก็ "
    "👩\u200d👧 <think></think><|im_end|>",
    "日本語の文章には空白がありません。東京、京都、大阪。" * 3,
    "\u0301\u0327 \u00a0 \u3000 \ufeff x\u0338 \r\n\r\n  '\u2019s 're'RE   ",
    "{question} {extraction} <|im_start|>",
)


def thinking(template: str, marked: bool = False) -> Thinking:
    spec = ThinkSpec(
        prompt=template,
        max_thinking_tokens=5,
        answer_marker="Answer:",
        max_answer_tokens=5,
        sampling=Sampling(),
        thoughts=THOUGHTS,
    )
    budget = Budget(thinking=5, answer=5)
    return Thinking(spec=spec, marked=marked, budget=budget, sampling=Sampling())


def follow(
    tokenizer: Tokenizer, text: str, manner: Thinking
) -> tuple[ForcedKVCache, IncrementalPrefill, tuple[int, ...]]:
    """Let a text be written token by token, and return who read it, and stage 2's prompt."""
    context = ForcedKVCache(tokenizer, "x", context_length=4000)
    chat_model = new_chat_model(tokenizer, context)
    ahead = IncrementalPrefill(chat_model, manner, QUESTION, Deadline(None, FakeClock()))
    perceiver = Tokenizer(SMOLLM)  # has no normaliser, so that it can write any text
    stream, written = TextStream(perceiver), ""
    for token in perceiver.encode(text):
        written += stream.push(token)
        list(ahead.follow(written, lambda: False))
    assert written == text
    (prompt,) = thinking_prompt(chat_model, manner, QUESTION, text.strip(), None)
    assert isinstance(prompt, TokenSegment)
    return context, ahead, prompt.ids


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("marked", [False, True])
def test_what_was_read_is_the_beginning_of_the_prompt(text: str, marked: bool) -> None:
    tokenizer = Tokenizer(QWEN)
    manner = thinking("You read.\n\nDescription: {extraction}\nQuestion: {question}", marked)
    context, ahead, prompt = follow(tokenizer, text, manner)
    assert context.cached == list(prompt[: len(context.cached)])
    assert len(context.cached) % 8 == 0
    assert ahead.evaluated == len(context.cached)  # nothing was read in vain


@pytest.mark.parametrize("text", [TEXTS[0], TEXTS[3]])
def test_all_but_the_last_few_tokens_are_read(text: str) -> None:
    tokenizer = Tokenizer(QWEN)
    manner = thinking("Description: {extraction}\n{question}")
    context, _, prompt = follow(tokenizer, text, manner)
    behind = len(tokenizer.encode(f"\n{QUESTION}")) + 20  # and the turns
    unread = len(prompt) - len(context.cached) - behind
    last_two_words = len(tokenizer.encode(text.strip())) - len(tokenizer.encode_start(text.strip()))
    assert unread <= last_two_words + 8


def test_it_is_read_while_it_is_written_not_at_the_end() -> None:
    tokenizer = Tokenizer(QWEN)
    context, _, _ = follow(tokenizer, TEXTS[0], thinking("Description: {extraction}\n{question}"))
    assert max(context.batches) == 8
    assert sum(context.batches) == len(context.cached) > 64


def test_the_question_may_stand_before_the_extraction() -> None:
    tokenizer = Tokenizer(QWEN)
    manner = thinking("{question} {extraction} again {extraction}")
    context, _, prompt = follow(tokenizer, TEXTS[0], manner)
    assert context.cached == list(prompt[: len(context.cached)])
    assert len(context.cached) > len(tokenizer.encode(TEXTS[0]))


def test_without_a_place_for_the_extraction_nothing_is_read() -> None:
    context, ahead, _ = follow(Tokenizer(QWEN), TEXTS[0], thinking("{question}"))
    assert (context.fed, ahead.evaluated) == ([], 0)


def test_what_the_cache_holds_already_is_kept_to_its_end() -> None:
    """The same question about the same picture: reading ahead must not drop what is behind."""
    tokenizer = Tokenizer(QWEN)
    manner = thinking("Description: {extraction}\n{question}")
    context = ForcedKVCache(tokenizer, "x", context_length=4000)
    chat_model = new_chat_model(tokenizer, context)
    prompt = thinking_prompt(chat_model, manner, QUESTION, TEXTS[0].strip(), None)
    list(context.prefill_steps(prompt))
    ahead = IncrementalPrefill(chat_model, manner, QUESTION, Deadline(None, FakeClock()))
    for end in range(len(TEXTS[0])):
        list(ahead.follow(TEXTS[0][:end], lambda: False))
    assert ahead.evaluated == 0
    assert context.cached == positions_of(prompt)


def test_a_long_beginning_is_not_read_on_when_it_is_late() -> None:
    tokenizer = Tokenizer(QWEN)
    manner = thinking("Read well. " * 100 + "{extraction}\n{question}")
    for most in (0, 2):
        context = ForcedKVCache(tokenizer, context_length=4000, batch=64)
        chat_model = new_chat_model(tokenizer, context)
        ahead = IncrementalPrefill(chat_model, manner, QUESTION, Deadline(None, FakeClock()))
        list(ahead.follow("a ball", lambda: len(context.batches) == most))  # noqa: B023
        assert context.batches == [64] * most
        assert ahead.evaluated == 64 * most
