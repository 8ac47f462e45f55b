"""The catalogue: what can be built by name, and what is known of it.

In: a name. Out: its entry. It needs no extra and no network: whoever has not installed the tools
may look, too.
"""

import difflib
from dataclasses import replace

from edge_et.export.catalogue_entry import CataloguedCheckpoint, Entry, Eyes, Figure, LanguageModel
from edge_et.export.errors import UnknownModelError

NOT_RUN = (
    "This project has run none of these weights: no model hub was in reach. A build compares every "
    "part with its checkpoint, and leaves no bundle where they differ. Sizes and memory are "
    "estimates from the numbers of parameters; `edge-et models NAME` tells how."
)

_BFLOAT16_BYTES = 2
_FLOAT32_BYTES = 4

# Dimensions: config.json of each, and of the Qwen3 and SmolLM2 that they are made of. Q4_K_M stores
# most of Qwen3 in 4.85 bits, and its tied embeddings in 6.56. Rows of SmolLM2 are no whole blocks
# of 256 and become larger types: 6.6 bits, in a bundle of random weights that was built.
_QWEN3_0_6B = LanguageModel(
    parameters=596_049_920, bits=5.30, vocabulary=151_936, kv_bytes=2 * 2 * 28 * 8 * 128
)
_QWEN3_1_7B = LanguageModel(
    parameters=1_720_574_976, bits=5.16, vocabulary=151_936, kv_bytes=2 * 2 * 28 * 8 * 128
)
_QWEN3_4B = LanguageModel(
    parameters=4_022_468_096, bits=5.02, vocabulary=151_936, kv_bytes=2 * 2 * 36 * 8 * 128
)
_QWEN3_0_6B_UNTIED = LanguageModel(
    parameters=751_632_384, bits=5.13, vocabulary=151_936, kv_bytes=2 * 2 * 28 * 8 * 128
)
_SMOLLM2_135M = LanguageModel(
    parameters=162_974_016, bits=6.6, vocabulary=49_280, kv_bytes=2 * 2 * 30 * 3 * 64
)
_SMOLLM2_360M = LanguageModel(
    parameters=409_252_800, bits=6.6, vocabulary=49_280, kv_bytes=2 * 2 * 32 * 5 * 64
)

# Of the 24 layers of Qwen3.5 six have keys and values, of two heads of 256, and the others a state.
# With tower and draft layers these are the 0.87 and 2.27 billion parameters that are published.
_QWEN3_5_0_8B = LanguageModel(
    parameters=752_393_024,
    bits=5.47,
    vocabulary=248_320,
    kv_bytes=2 * 2 * 6 * 2 * 256,
    state_bytes=6 * 20_201_472,
)
_QWEN3_5_2B = replace(_QWEN3_5_0_8B, parameters=1_881_825_088, bits=5.35)
# Six of 16 layers have a KV cache.
_LFM2_350M = LanguageModel(
    parameters=354_483_968, bits=5.17, vocabulary=65_536, kv_bytes=2 * 2 * 6 * 8 * 64
)
_LFM2_1_2B = LanguageModel(
    parameters=1_170_340_608, bits=5.05, vocabulary=65_536, kv_bytes=2 * 2 * 6 * 8 * 64
)

# Its file holds the embeddings twice, though they are tied.
QWEN3_1_7B = CataloguedCheckpoint(
    repository="Qwen/Qwen3-1.7B",
    license="apache-2.0",
    download_bytes=2_031_739_904 * _BFLOAT16_BYTES,
    llm=_QWEN3_1_7B,
)
QWEN3_4B = CataloguedCheckpoint(
    repository="Qwen/Qwen3-4B",
    license="apache-2.0",
    download_bytes=_QWEN3_4B.parameters * _BFLOAT16_BYTES,
    llm=_QWEN3_4B,
)


def _of_the_paper(name: str, llm: LanguageModel, projector: int) -> CataloguedCheckpoint:
    """Describe a perceiver of the paper: SigLIP so400m less its last layer, in up to ten tiles."""
    eyes = Eyes(parameters=397_745_440 + projector, tile_tokens=729, most_tokens=8829)
    return CataloguedCheckpoint(
        repository=f"markendo/{name}",
        license="unknown",
        download_bytes=(llm.parameters + eyes.parameters) * _BFLOAT16_BYTES,
        llm=llm,
        eyes=eyes,
    )


def _smolvlm2(size: str, llm: LanguageModel, eyes: int) -> CataloguedCheckpoint:
    """Describe a SmolVLM2, taken to be stored in float32; in bfloat16 it would be half of it."""
    return CataloguedCheckpoint(
        repository=f"HuggingFaceTB/SmolVLM2-{size}-Video-Instruct",
        license="apache-2.0",
        download_bytes=(llm.parameters + eyes) * _FLOAT32_BYTES,
        llm=llm,
        eyes=Eyes(parameters=eyes, tile_tokens=64, most_tokens=1127),
    )


def _lfm2_vl(name: str, llm: LanguageModel, eyes: int) -> CataloguedCheckpoint:
    """Describe an LFM2-VL or LFM2.5-VL: a SigLIP 2, on one tile or on up to ten and one."""
    return CataloguedCheckpoint(
        repository=f"LiquidAI/{name}",
        license="lfm1.0 (other)",
        download_bytes=(llm.parameters + eyes) * _BFLOAT16_BYTES,
        llm=llm,
        eyes=Eyes(parameters=eyes, tile_tokens=258, most_tokens=2829),
    )


_EXTRACT_0_6B = _of_the_paper("llava-extract-qwen3-0.6B", _QWEN3_0_6B, 2_230_272)
_EXTRACT_1_7B = _of_the_paper("llava-extract-qwen3-1.7B", _QWEN3_1_7B, 6_557_696)
_SCRATCH_0_6B = _of_the_paper("llava-extract-from-scratch-qwen3-0.6B", _QWEN3_0_6B, 2_230_272)
_SCRATCH_1_7B = _of_the_paper("llava-extract-from-scratch-qwen3-1.7B", _QWEN3_1_7B, 6_557_696)
_SMOLVLM2_256M = _smolvlm2("256M", _SMOLLM2_135M, 93_510_912)
_SMOLVLM2_500M = _smolvlm2("500M", _SMOLLM2_360M, 98_229_504)
_LFM2_VL_EYES, _LFM2_VL_LARGE_EYES = 94_234_880, 426_285_296
_INTERNVL3_5_1B = CataloguedCheckpoint(
    repository="OpenGVLab/InternVL3_5-1B-HF",
    license="apache-2.0",
    download_bytes=1_060_897_792 * _BFLOAT16_BYTES,
    llm=_QWEN3_0_6B_UNTIED,
    eyes=Eyes(parameters=309_265_408, tile_tokens=256, most_tokens=13 * 256),
)


def _qwen3_5(size: str, llm: LanguageModel, eyes: int, drafting: int) -> CataloguedCheckpoint:
    """Describe a Qwen3.5, in whose file are also layers that predict a second token."""
    return CataloguedCheckpoint(
        repository=f"Qwen/Qwen3.5-{size}",
        license="apache-2.0",
        download_bytes=(llm.parameters + eyes + drafting) * _BFLOAT16_BYTES,
        llm=llm,
        eyes=Eyes(parameters=eyes, tile_tokens=1024, most_tokens=1024),
    )


def _accuracies(in_domain: float, mmstar: float) -> tuple[Figure, ...]:
    source = "https://github.com/markendo/downscaling_intelligence"
    return (
        Figure(
            measure="the paper's in-domain benchmarks, its code and weights in full precision",
            value=f"{in_domain} %",
            source=source,
        ),
        Figure(
            measure="MMStar, likewise, with hints by an 8B model",
            value=f"{mmstar} %",
            source=source,
        ),
    )


def _smolvlm2_figures(size: str, video_mme: float, video_memory: str) -> tuple[Figure, ...]:
    card = f"https://huggingface.co/HuggingFaceTB/SmolVLM2-{size}-Video-Instruct"
    return (
        Figure(measure="Video-MME, perceiver alone", value=f"{video_mme} %", source=card),
        Figure(measure="GPU memory for a video, its own code", value=video_memory, source=card),
    )


_SMOLVLM2_500M_FIGURES = _smolvlm2_figures("500M", 42.2, "1.8 GB")

ENTRIES: tuple[Entry, ...] = (
    Entry(
        name="smolvlm2-256m",
        good_at="the smallest: short descriptions on very little memory",
        perceiver=_SMOLVLM2_256M,
        figures=(
            *_smolvlm2_figures("256M", 33.7, "1.38 GB"),
            Figure(
                measure="first token and decoding in OpenVINO, 8-bit weights, on an Intel CPU",
                value="0.25 s, 64 tokens/s",
                source="https://huggingface.co/blog/openvino-vlm",
            ),
        ),
    ),
    Entry(
        name="smolvlm2-500m",
        good_at="descriptions and text in pictures, on little memory",
        perceiver=_SMOLVLM2_500M,
        figures=_SMOLVLM2_500M_FIGURES,
    ),
    Entry(
        name="smolvlm2-500m-qwen3-1.7b",
        good_at="few image tokens, and a reasoner that thinks over the description",
        perceiver=_SMOLVLM2_500M,
        reasoner=QWEN3_1_7B,
        figures=_SMOLVLM2_500M_FIGURES,
    ),
    Entry(
        name="lfm2-vl-450m",
        good_at="short answers: the least memory for a token, and one tile for a small picture",
        perceiver=_lfm2_vl("LFM2-VL-450M", _LFM2_350M, _LFM2_VL_EYES),
    ),
    Entry(
        name="lfm2.5-vl-450m",
        good_at="the same, tuned anew and in nine languages",
        perceiver=_lfm2_vl("LFM2.5-VL-450M", _LFM2_350M, _LFM2_VL_EYES),
    ),
    Entry(
        name="lfm2.5-extract-qwen3-1.7b",
        good_at="fields of a picture as JSON (--hint lists them), and a reasoner that thinks",
        perceiver=_lfm2_vl("LFM2.5-VL-450M-Extract", _LFM2_350M, _LFM2_VL_EYES),
        reasoner=QWEN3_1_7B,
    ),
    Entry(
        name="lfm2-vl-1.6b",
        good_at="descriptions by a larger tower, with a small KV cache",
        perceiver=_lfm2_vl("LFM2-VL-1.6B", _LFM2_1_2B, _LFM2_VL_LARGE_EYES),
    ),
    Entry(
        name="lfm2.5-vl-1.6b",
        good_at="the same, tuned anew and in several languages",
        perceiver=_lfm2_vl("LFM2.5-VL-1.6B", _LFM2_1_2B, _LFM2_VL_LARGE_EYES),
    ),
    Entry(
        name="internvl3.5-1b",
        good_at="text, charts and documents, by one model",
        perceiver=_INTERNVL3_5_1B,
    ),
    Entry(
        name="internvl3.5-1b-qwen3-1.7b",
        good_at="text, charts and documents, with a reasoner that thinks",
        perceiver=_INTERNVL3_5_1B,
        reasoner=QWEN3_1_7B,
    ),
    Entry(
        name="qwen3.5-0.8b",
        good_at="pictures of any shape as one tile, by one model that keeps few keys and values",
        perceiver=_qwen3_5("0.8B", _QWEN3_5_0_8B, 100_592_896, 20_452_864),
    ),
    Entry(
        name="qwen3.5-2b",
        good_at="the same, by a larger model",
        perceiver=_qwen3_5("2B", _QWEN3_5_2B, 331_416_576, 60_828_160),
    ),
    Entry(
        name="paper-0.6b",
        good_at="the paper's small pair: details that a question asks for",
        perceiver=_EXTRACT_0_6B,
        reasoner=QWEN3_1_7B,
        figures=_accuracies(80.3, 46.6),
    ),
    Entry(
        name="paper-1.7b",
        good_at="the paper's large pair: a stronger reasoner, and the slowest here",
        perceiver=_EXTRACT_1_7B,
        reasoner=QWEN3_4B,
        figures=_accuracies(85.3, 52.6),
    ),
    Entry(
        name="paper-0.6b-from-scratch",
        good_at="the small pair, its perceiver tuned on extractions alone: for comparisons",
        perceiver=_SCRATCH_0_6B,
        reasoner=QWEN3_1_7B,
        figures=_accuracies(78.0, 42.6),
    ),
    Entry(
        name="paper-1.7b-from-scratch",
        good_at="the large pair, its perceiver tuned on extractions alone: for comparisons",
        perceiver=_SCRATCH_1_7B,
        reasoner=QWEN3_4B,
        figures=_accuracies(82.7, 48.1),
    ),
)


def find_entry(name: str) -> Entry:
    """Find an entry by its name.

    Raises:
        UnknownModelError: there is none of that name.
    """
    known = {entry.name: entry for entry in ENTRIES}
    if name not in known:
        near = difflib.get_close_matches(name.lower(), known, n=1)
        raise UnknownModelError(name, tuple(known), near[0] if near else None)
    return known[name]
