"""What the mini model is: its sizes, its prompts, its chat format.

Training, evaluation and the bundle all take these from here, so that the model is asked the way
it was trained.
"""

from __future__ import annotations

from edge_et.tuning.training.lora_file import LoraSettings
from edge_et.tuning.training.prompt_format import PromptFormat

# Features are taken after EARLY_LAYER of the tower's 12 layers as well; the layers behind
# FROZEN_LAYERS learn.
EARLY_LAYER = 4
FROZEN_LAYERS = 8
PROJECTOR_HIDDEN = 1024
LLM_WIDTH = 576
PIXEL_SHUFFLE = 2
# An image is what is seen, a token for each place, then a list of things, THING_TOKENS for each,
# then what is read, a token for each character.
SEEN_TOKENS = 64
LISTED_THINGS = 10
THING_TOKENS = 3
READ_TOKENS = 32
IMAGE_TOKENS = SEEN_TOKENS + THING_TOKENS * LISTED_THINGS + READ_TOKENS

LORA = LoraSettings(
    rank=16,
    alpha=32,
    linears=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
)

TURN_START = "<|im_start|>{role}\n"
TURN_END = "<|im_end|>\n"
STOP_TOKENS = ("<|im_end|>", "<|endoftext|>")

EXTRACT_PROMPT = "{image}\nDescribe the picture. Pay attention to: {question}"
THINK_PROMPT = "Think step by step, then answer: {question}"
CAPTION_PROMPT = "{image}\nDescribe the picture."
DIRECT_PROMPT = "{image}\n{question}"
ANSWER_MARKER = "Answer:"

PROMPTS = PromptFormat(
    turn_start=TURN_START,
    turn_end=TURN_END,
    extract_prompt=EXTRACT_PROMPT,
    think_prompt=THINK_PROMPT,
    caption_prompt=CAPTION_PROMPT,
    direct_prompt=DIRECT_PROMPT,
    answer_marker=ANSWER_MARKER,
    image_tokens=IMAGE_TOKENS,
)
