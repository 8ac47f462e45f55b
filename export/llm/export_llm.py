"""Export a Hugging Face language model to a GGUF.

In: a checkpoint folder (config.json, tensors, tokenizer.json) of a family in `llm_registry`, or of
a vision-language model in `vlm_registry` that has one inside. Out: one GGUF in F32, F16 or BF16,
which was compared with transformers before it appears.
"""

from functools import partial
from pathlib import Path
from typing import cast, get_args

from edge_et.export.errors import ParityError, UnknownQuantizationError
from edge_et.export.steps import Progress, StepReport, Stopwatch, atomic_output, needing_extra

with needing_extra("export"):
    import gguf
    import numpy as np
    from numpy.typing import NDArray

    from edge_et.export.checkpoint.checkpoint_folder import TensorFiles
    from edge_et.export.families.llm_family import Family, LlmConfig, gguf_name, tensor_shapes
    from edge_et.export.families.llm_registry import family_of
    from edge_et.export.families.vlm_registry import read_llm
    from edge_et.export.llm.compare_logits import gguf_against_checkpoint
    from edge_et.export.llm.gguf_writer import GgufTensor, Storage, write_gguf
    from edge_et.export.llm.vocabulary import Vocabulary, read_vocabulary
    from edge_et.export.steps import no_progress

MAX_LOGIT_ERROR = 2e-3
"""Largest logit difference accepted in F32: the project's promise for small checkpoints."""

MAX_MEAN_KL = {"F16": 1e-3, "BF16": 5e-2}
"""Largest mean divergence accepted, nats. In these types llama.cpp rounds activations too, and
BF16 rounds the weights of a float32 checkpoint to 8 bits: single logits differ by an amount that
grows with the model. A wrong tensor gives more than 1."""

_FILE_TYPES = {
    "F32": gguf.LlamaFileType.ALL_F32,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
    "BF16": gguf.LlamaFileType.MOSTLY_BF16,
}


def export_llm(
    checkpoint: Path,
    out: Path,
    *,
    dtype: str = "F16",
    pre_tokenizer: str | None = None,
    name: str | None = None,
    check_logits: bool = True,
    progress: Progress = no_progress,
) -> StepReport:
    """Convert a checkpoint to a GGUF and compare the two, with one tensor in memory at a time.

    Args:
        checkpoint: the Hugging Face folder.
        out: the GGUF to write, replaced if it exists.
        dtype: how matrices are stored; vectors and kernels of convolutions are always F32.
        pre_tokenizer: llama.cpp's name for the text splitting; None recognises it.
        name: `general.name`; None writes none.
        check_logits: compare with transformers; if not, the report holds no error.
        progress: told the bytes written.

    Returns:
        What was written and how far its logits are from the checkpoint's.

    Raises:
        CheckpointError: the checkpoint cannot be used; its children tell why.
        VocabularyError: the tokenizer cannot be used.
        UnknownQuantizationError: no such dtype.
        NativeModelError: llama.cpp refuses the result.
        ParityError: the logits differ too much. Nothing is left behind.
    """
    if dtype not in get_args(Storage):
        raise UnknownQuantizationError(dtype, get_args(Storage))
    storage = cast(Storage, dtype)
    watch = Stopwatch()
    source = read_llm(checkpoint)
    config = source.config
    family = family_of(config)
    tensors = source.open_tensors()  # compares the config's sizes with theirs
    vocabulary = read_vocabulary(checkpoint, config.vocab_size, pre_tokenizer)
    with atomic_output(out) as temporary:
        write_gguf(
            temporary,
            gguf.MODEL_ARCH_NAMES[family.architecture],
            partial(
                _add_metadata,
                family=family,
                config=config,
                vocabulary=vocabulary,
                dtype=storage,
                name=name,
            ),
            _plan(family, config, tensors, storage),
            progress,
        )
        tensors.require_all_read()
        measure, error, limit, details = "", None, None, {}
        if check_logits:
            progress("compare logits", 0, 1)
            difference = gguf_against_checkpoint(temporary, checkpoint)
            details = {
                "max_abs_logit_error": difference.max_abs,
                "mean_kl_nats": difference.mean_kl,
                "same_top_token_share": difference.same_top,
            }
            if dtype == "F32":
                measure, error, limit = "max abs logit error", difference.max_abs, MAX_LOGIT_ERROR
            else:
                measure, error, limit = "mean KL, nats", difference.mean_kl, MAX_MEAN_KL[dtype]
            if error > limit:
                raise ParityError(f"{out} against {checkpoint}", measure, error, limit)
            progress("compare logits", 1, 1)
    return StepReport(
        name=f"llm {dtype}",
        path=out,
        size_bytes=out.stat().st_size,
        measure=measure,
        error=error,
        limit=limit,
        seconds=watch.seconds,
        details=details,
    )


def _plan(
    family: Family, config: LlmConfig, tensors: TensorFiles, dtype: Storage
) -> list[GgufTensor]:
    if config.tie_word_embeddings and "lm_head.weight" in tensors.names:
        # It is the same table or another model.
        tensors.drop_copy("lm_head.weight", of="model.embed_tokens.weight")

    def load(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return family.gguf_values(name, tensors.read(name), config).reshape(shape)

    planned = []
    for name, shape in tensor_shapes(family, config).items():
        is_matrix = len(shape) == 2
        # A convolution that keeps channels apart has a kernel of [channels, 1, positions].
        stored = (shape[0], shape[2]) if len(shape) == 3 else shape
        planned.append(
            GgufTensor(
                name=gguf_name(family, config, name),
                shape=stored,
                storage=dtype if is_matrix else "F32",
                load=partial(load, name, stored),
            )
        )
    return planned


def _add_metadata(
    writer: gguf.GGUFWriter,
    *,
    family: Family,
    config: LlmConfig,
    vocabulary: Vocabulary,
    dtype: Storage,
    name: str | None,
) -> None:
    writer.add_type(gguf.GGUFType.MODEL)
    if name is not None:
        writer.add_name(name)
    writer.add_file_type(_FILE_TYPES[dtype])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_key_length(config.head_width)
    writer.add_value_length(config.head_width)
    writer.add_rope_dimension_count(config.rotary_width or config.head_width)
    writer.add_rope_freq_base(config.rope_parameters.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    family.add_keys(writer, config)
    vocabulary.add_to(writer)
