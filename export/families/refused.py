"""Popular architectures that no bundle can hold, and why: what a user is told instead of a list.

In: the name of an architecture in config.json or in a GGUF. Out: the reason. Adding one here needs
nothing else; adding one to a registry means deleting it here.

Source: `modeling_*.py` of transformers 5.24; llama.cpp's `tools/mtmd` for masks within a picture.
"""

_DEEPSTACK = (
    "adds what its tower's inner layers see to inner layers of the language model (DeepStack); a "
    "bundle's image tokens go in once, at the first layer"
)
_BOTH_WAYS = (
    "lets image tokens attend to those behind them; here all attention looks back, so that what a "
    "KV cache holds does not depend on what follows"
)
_ENCODER_DECODER = (
    "writes by a decoder that looks at an encoder; a bundle's language models are decoders alone"
)
_CROSS_ATTENTION = (
    "shows pictures to its language model by cross-attention; here image tokens stand in the prompt"
)

_REASONS = {
    "Qwen3VLForConditionalGeneration": _DEEPSTACK,
    "Qwen3VLMoeForConditionalGeneration": _DEEPSTACK,
    "GraniteDoclingForConditionalGeneration": _DEEPSTACK,
    "Granite4VisionForConditionalGeneration": _DEEPSTACK,
    "qwen3vl": _DEEPSTACK,
    "qwen3vlmoe": _DEEPSTACK,
    "Gemma3ForConditionalGeneration": _BOTH_WAYS,
    "PaliGemmaForConditionalGeneration": _BOTH_WAYS,
    "HfMoondream": _BOTH_WAYS,
    "Moondream": _BOTH_WAYS,
    "MoondreamForCausalLM": _BOTH_WAYS,
    "Florence2ForConditionalGeneration": _ENCODER_DECODER,
    "VisionEncoderDecoderModel": _ENCODER_DECODER,
    "Pix2StructForConditionalGeneration": _ENCODER_DECODER,
    "T5ForConditionalGeneration": _ENCODER_DECODER,
    "MT5ForConditionalGeneration": _ENCODER_DECODER,
    "BartForConditionalGeneration": _ENCODER_DECODER,
    "t5": _ENCODER_DECODER,
    "MllamaForConditionalGeneration": _CROSS_ATTENTION,
    "mllama": _CROSS_ATTENTION,
}


def why_refused(architecture: object) -> str:
    """Say why an architecture cannot be exported.

    Args:
        architecture: from a file, which may say anything.

    Returns:
        The rest of a sentence that begins with its name; empty: nothing is known of it.
    """
    return _REASONS.get(architecture, "") if isinstance(architecture, str) else ""
