"""Tiny bundles of one model or of two."""

from pathlib import Path

from edge_et.bundle import (
    ChatSpec,
    Check,
    DirectSpec,
    ExtractSpec,
    LanguageModelSpec,
    Manifest,
    Processing,
    Sampling,
    Source,
    ThinkSpec,
    VisionSpec,
    file_ref,
    save_manifest,
)
from tiny.llama import PADDING_ROWS, WIDTH, write_adapter, write_llama
from tiny.tokenizer import write_tokenizer
from tiny.tower import SIZE, TOKENS, write_tower

CHATML = ChatSpec(
    turn_start="<|im_start|>{role}\n",
    turn_end="<|im_end|>\n",
    system=None,
    stop_tokens=("<|im_end|>", "<|endoftext|>"),
)
PROCESSING = Processing(
    height=SIZE,
    width=SIZE,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    rescale=1 / 255,
    resample="bicubic",
    fit="squash",
)


def build_bundle(
    folder: Path, *, two_models: bool = False, adapter: bool = False, context_length: int = 512
) -> Manifest:
    """Write a bundle whose models are random; equal arguments give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = write_tokenizer(folder / "tokenizer.json")
    write_tower(folder / "vision.onnx", width=WIDTH)

    def chat_model(name: str, seed: int, system: str | None, adapter: bool) -> LanguageModelSpec:
        write_llama(folder / f"{name}.gguf", folder / "tokenizer.json", seed=seed)
        if adapter:
            write_adapter(folder / f"{name}-lora.gguf", seed=seed)
        return LanguageModelSpec(
            weights=file_ref(folder / f"{name}.gguf"),
            adapter=file_ref(folder / f"{name}-lora.gguf") if adapter else None,
            tokenizer=file_ref(folder / "tokenizer.json"),
            architecture="llama",
            embedding_width=WIDTH,
            vocabulary_size=tokenizer.get_vocab_size() + PADDING_ROWS,
            context_length=context_length,
            chat=ChatSpec(
                turn_start=CHATML.turn_start,
                turn_end=CHATML.turn_end,
                system=system,
                stop_tokens=CHATML.stop_tokens,
            ),
        )

    described = "Description: {extraction}\n{question}"
    manifest = Manifest(
        name="tiny",
        version="1",
        description="Random weights, for tests.",
        vision=VisionSpec(
            graph=file_ref(folder / "vision.onnx"),
            embedding_width=WIDTH,
            image_tokens_per_tile=TOKENS,
            processing=PROCESSING,
        ),
        perceiver=chat_model("perceiver", 11, None, adapter),
        reasoner=chat_model("reasoner", 12, "You read.", False) if two_models else None,
        extract=ExtractSpec(
            prompt="{image}Describe what the picture shows. Pay attention to: {question}",
            max_extraction_tokens=24,
            sampling=Sampling(),
        ),
        think=ThinkSpec(
            prompt=described if two_models else "{question}",
            max_thinking_tokens=20,
            answer_marker="Answer:",
            max_answer_tokens=8,
            sampling=Sampling(),
        ),
        direct=DirectSpec(prompt="{image}{question}", max_answer_tokens=8),
        sources=(
            Source(name="random", version="1", license="CC0-1.0", url="", used_for="weights"),
        ),
        checks=(Check(name="none", value=0.0, limit=None, unit=""),),
    )
    save_manifest(manifest, folder)
    return manifest
