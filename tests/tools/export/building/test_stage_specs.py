"""The prompts, budgets and contexts of both stages."""

import pytest
from tiny.places import GOLDEN

from edge_et.export.building.stage_specs import StageModel, plan_stages
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


def test_two_models_get_the_papers_prompts_and_budgets() -> None:
    stages = plan_stages(stage_model(6e8), stage_model(1.7e9, thinks=True), 8829, None)
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


def test_small_reasoners_do_not_think_unless_asked() -> None:
    stages = plan_stages(stage_model(6e8), stage_model(6e8, thinks=True), 730, None)
    assert stages.think.thoughts is not None
    assert not stages.think.thoughts.default
    assert stages.extract.hint is None


def test_a_reasoner_without_marks_reasons_in_words() -> None:
    stages = plan_stages(stage_model(6e8), stage_model(1.5e9), 730, None)
    assert stages.think.thoughts is None
    assert "Please reason step by step" in stages.think.prompt


def test_one_model_goes_on_in_its_conversation() -> None:
    stages = plan_stages(stage_model(6e8, thinks=True), None, 730, None)
    assert stages.think.thoughts is None
    assert stages.think.sees == "conversation"
    assert stages.think.prompt.startswith("Question: {question}\nAnswer directly")
    assert stages.reasoner_context is None
    assert stages.perceiver_context > 730 + 3 * 1024


def test_a_shorter_context_leaves_less_for_thinking() -> None:
    stages = plan_stages(stage_model(6e8), stage_model(1.7e9, thinks=True), 730, 4096)
    assert stages.think.thoughts is not None
    assert 1024 < stages.think.thoughts.max_thinking_tokens < 2048
    assert stages.reasoner_context == 4096
    assert stages.perceiver_context < 4096
    limited = plan_stages(
        stage_model(6e8), stage_model(1.7e9, thinks=True, longest=4096), 730, None
    )
    assert limited == stages


def test_a_context_that_is_too_short_is_refused_with_numbers() -> None:
    with pytest.raises(AssemblyError, match=r"4096 tokens is too short: 8829 image .* need \d{5};"):
        plan_stages(stage_model(6e8), stage_model(1.7e9, thinks=True), 8829, 4096)
    with pytest.raises(AssemblyError, match="too short"):
        plan_stages(stage_model(6e8), stage_model(1.7e9, thinks=True), 729, 2048)
    with pytest.raises(AssemblyError, match="too short"):
        plan_stages(stage_model(6e8), None, 8829, 10_240)
