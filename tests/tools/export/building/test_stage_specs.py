"""The prompts, budgets and contexts of both stages."""

from dataclasses import replace

import pytest
from tiny.places import GOLDEN

from edge_et.export.building.stage_specs import StageModel, TwoStages, plan_stages
from edge_et.export.chat.llm_chat_format import read_llm_chat_format
from edge_et.export.errors import AssemblyError
from edge_et.llm import Tokenizer

CHECKPOINT = GOLDEN / "llava_qwen3_tiny"


def stage_model(parameters: float, *, thinks: bool = False, longest: int = 40_960) -> StageModel:
    found = read_llm_chat_format(CHECKPOINT)
    return StageModel(
        chat=found.chat,
        tokenizer=Tokenizer(CHECKPOINT / "tokenizer.json"),
        parameters=int(parameters),
        longest=longest,
        thoughts=found.thoughts if thinks else None,
        image_prefix="{image}\n",
    )


def plan_pair(limit: int | None = None, *, paper_protocol: bool = False) -> TwoStages:
    perceiver, reasoner = stage_model(6e8), stage_model(1.7e9, thinks=True)
    return plan_stages(perceiver, reasoner, 730, limit, paper_protocol=paper_protocol)


def test_a_perceiver_may_have_words_of_its_own() -> None:
    perceiver = replace(stage_model(6e8), extract_words="Describe: {hint}", between_pictures="\n")
    extract = plan_stages(perceiver, None, 730, None).extract
    assert (extract.prompt, extract.between_pictures) == ("{image}\nDescribe: {hint}", "\n")
    paper = plan_stages(perceiver, None, 730, None, paper_protocol=True)
    assert paper.extract.prompt.startswith("{image}\nDescribe the fine-grained content")


def test_the_papers_protocol_is_its_prompts_and_budgets() -> None:
    stages = plan_stages(
        stage_model(6e8), stage_model(1.7e9, thinks=True), 8829, None, paper_protocol=True
    )
    assert stages.extract.prompt.startswith("{image}\nDescribe the fine-grained content of the")
    assert stages.extract.prompt.endswith("Especially, pay attention to {hint}.")
    assert (stages.extract.max_extraction_tokens, stages.extract.sampling.temperature) == (1024, 0)
    thoughts = stages.think.thoughts
    assert thoughts is not None
    assert thoughts.default
    assert stages.extract.hint is not None
    assert (thoughts.max_thinking_tokens, stages.think.max_answer_tokens) == (4096, 1024)
    sampling = thoughts.sampling, stages.think.sampling
    assert [(s.temperature, s.top_p, s.top_k) for s in sampling] == [
        (0.6, 0.95, 20),
        (0.7, 0.8, 20),
    ]
    assert thoughts.prompt.startswith("You are an excellent text-based reasoning expert.")
    assert "\n\nDescription: {extraction}\nQuestion: {question}\nPlease reason" in thoughts.prompt
    assert "Answer directly with the option's letter" in stages.think.prompt
    assert stages.reasoner_context is not None
    assert 4096 + 2 * 1024 < stages.reasoner_context < 4096 + 3 * 1024
    assert 8829 + 1024 < stages.perceiver_context < 8829 + 1024 + 1024


def test_without_choices_nobody_is_asked_for_a_letter() -> None:
    think, paper = plan_pair().think, plan_pair(paper_protocol=True).think
    assert think.thoughts is not None
    assert paper.thoughts is not None
    for prompt, of_paper in (
        (think.prompt, paper.prompt),
        (think.thoughts.prompt, paper.thoughts.prompt),
    ):
        assert "letter" not in prompt
        assert prompt.endswith('in the format of "Answer:". Do not add anything other than the '
                               'answer after "Answer:".')  # fmt: skip
        shared = "{question}\n"
        assert prompt.partition(shared)[0] == of_paper.partition(shared)[0]
    assert think.sampling == paper.sampling


def test_choices_are_told_in_the_papers_words() -> None:
    """Its benchmarks have the options at the end of the question."""
    think, paper = plan_pair().think, plan_pair(paper_protocol=True).think
    told = think.choices
    assert told is not None
    assert paper.thoughts is not None
    options = "\nOptions: {choices}"
    assert told.prompt.replace(options, "") == paper.prompt
    assert (told.thoughts_prompt or "").replace(options, "") == paper.thoughts.prompt
    assert "\nQuestion: {question}\nOptions: {choices}\nAnswer directly" in told.prompt
    assert (told.item, told.separator) == ("{letter}: {choice}", ", ")
    assert paper.choices == told


def test_a_minute_of_writing_on_a_small_computer() -> None:
    """At the pace that the default is made for: 8 tokens a second, and 20 of the perceiver."""
    stages = plan_pair()
    thoughts, hint = stages.think.thoughts, stages.extract.hint
    assert thoughts is not None
    assert hint is not None
    reasoner = hint.max_hint_tokens + thoughts.max_thinking_tokens + stages.think.max_answer_tokens
    assert reasoner / 8 + stages.extract.max_extraction_tokens / 20 < 62
    assert stages.think.max_thinking_tokens <= thoughts.max_thinking_tokens
    paper = plan_pair(paper_protocol=True)
    assert stages.reasoner_context is not None
    assert paper.reasoner_context is not None
    assert stages.reasoner_context < paper.reasoner_context / 2


def test_small_reasoners_do_not_think_unless_asked() -> None:
    stages = plan_stages(stage_model(6e8), stage_model(6e8, thinks=True), 730, None)
    assert stages.think.thoughts is not None
    assert not stages.think.thoughts.default
    assert stages.extract.hint is None


def test_a_reasoner_without_marks_reasons_in_words() -> None:
    stages = plan_stages(stage_model(6e8), stage_model(1.5e9), 730, None)
    assert stages.think.thoughts is None
    assert "Please reason step by step" in stages.think.prompt
    assert stages.think.choices is not None
    assert "Please reason step by step" in stages.think.choices.prompt
    assert stages.think.choices.thoughts_prompt is None


def test_one_model_goes_on_in_its_conversation() -> None:
    stages = plan_stages(stage_model(6e8, thinks=True), None, 730, None)
    assert stages.think.thoughts is None
    assert stages.think.sees == "conversation"
    assert stages.think.prompt.startswith("Question: {question}\nAnswer directly")
    assert stages.reasoner_context is None
    assert stages.perceiver_context > 730 + 256 + 256 + 96
    assert stages.think.choices is not None
    assert stages.think.choices.prompt.startswith("Question: {question}\nOptions: {choices}\n")


def test_a_shorter_context_leaves_less_for_thinking() -> None:
    stages = plan_pair(4096, paper_protocol=True)
    assert stages.think.thoughts is not None
    assert 1024 < stages.think.thoughts.max_thinking_tokens < 2048
    assert stages.reasoner_context == 4096
    assert stages.perceiver_context < 4096
    limited = plan_stages(
        stage_model(6e8),
        stage_model(1.7e9, thinks=True, longest=4096),
        730,
        None,
        paper_protocol=True,
    )
    assert limited == stages


def test_a_shorter_context_is_first_short_of_what_is_spare() -> None:
    stages, spacious = plan_pair(1536), plan_pair()
    assert stages.think == spacious.think
    assert spacious.reasoner_context is not None
    assert stages.reasoner_context == 1536 < spacious.reasoner_context


def test_a_context_that_is_too_short_is_refused_with_numbers() -> None:
    with pytest.raises(AssemblyError, match=r"4096 tokens is too short: 8829 image .* need \d{4};"):
        plan_stages(stage_model(6e8), stage_model(1.7e9, thinks=True), 8829, 4096)
    with pytest.raises(AssemblyError, match="too short"):
        plan_stages(stage_model(6e8), stage_model(1.7e9, thinks=True), 729, 1024)
    with pytest.raises(AssemblyError, match="too short"):
        plan_stages(stage_model(6e8), None, 8829, 9728)
