"""An entry of the catalogue: checkpoints that make a bundle, and what the bundle takes.

In: numbers of parameters. Out: estimates of a download, of a bundle, and of memory.

A download is the stored parameters times the bytes of one. A bundle is the tower in int8 and the
language models in Q4_K_M, as a build makes them unless told otherwise. Memory is all of that,
the KV caches in F16, and buffers: 60 MB for the process, and for each language model a batch of
logits in float32.
"""

from dataclasses import dataclass

from edge_et.export.licenses import is_permissive

_INT8_BYTES = 1.02  # a weight with its scales
_BATCH = 512  # rows of logits that llama.cpp reserves, as the runtime asks for
PROCESS_BYTES = 60_000_000
"""Of Python and the libraries: what the peaks in docs/benchmarks.md leave of the rest."""

# Positions beside the image tokens in a context of the default budgets, as `plan_stages` counts.
_SEEING = 1400
_THINKING = 2048
_BOTH = 2200


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageModel:
    """The language model of a checkpoint.

    Attributes:
        parameters: weights, an output matrix that is not tied counted in.
        bits: of one weight in Q4_K_M, the mean of the mixture.
        vocabulary: rows of the embeddings.
        kv_bytes: of a position in the KV cache, in F16.
        state_bytes: of recurrent states, of two sequences and as copies; 0: it has none.
    """

    parameters: int
    bits: float
    vocabulary: int
    kv_bytes: int
    state_bytes: int = 0

    @property
    def bundle_bytes(self) -> int:
        """Bytes in a bundle."""
        return round(self.parameters * self.bits / 8)

    def memory_bytes(self, context: int) -> int:
        """Bytes beside the weights, with a KV cache of `context` positions."""
        return context * self.kv_bytes + self.state_bytes + _BATCH * self.vocabulary * 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Eyes:
    """The vision side of a checkpoint.

    Attributes:
        parameters: of tower and projector.
        tile_tokens: image tokens of a picture shown as one tile, as many as such a tile may have.
        most_tokens: image tokens of the largest picture that the checkpoint's rules make.
    """

    parameters: int
    tile_tokens: int
    most_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CataloguedCheckpoint:
    """A checkpoint on the hub.

    Attributes:
        repository: `owner/name`.
        license: as its model card stated it; `unknown` where no copy of the card was at hand.
        download_bytes: of its tensors.
        llm: its language model.
        eyes: its vision side; None: it has none.
    """

    repository: str
    license: str
    download_bytes: int
    llm: LanguageModel
    eyes: Eyes | None = None

    @property
    def place(self) -> str:
        """What `edge-et build` calls it."""
        return f"hf:{self.repository}"

    @property
    def url(self) -> str:
        """Where its model card is."""
        return f"https://huggingface.co/{self.repository}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Something that others measured and published.

    Attributes:
        measure: what, of which program and data.
        value: with its unit.
        source: URL of where it is written.
    """

    measure: str
    value: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What can be built by one name.

    Attributes:
        name: for `edge-et build`.
        good_at: in one line.
        perceiver: the checkpoint that sees.
        reasoner: the one that thinks; None: the perceiver does.
        figures: published of this pair, or of its perceiver.
    """

    name: str
    good_at: str
    perceiver: CataloguedCheckpoint
    reasoner: CataloguedCheckpoint | None = None
    figures: tuple[Figure, ...] = ()

    @property
    def parts(self) -> dict[str, CataloguedCheckpoint]:
        """Its checkpoints by role: `perceiver`, and where there is one `reasoner`."""
        parts = {"perceiver": self.perceiver}
        return parts if self.reasoner is None else parts | {"reasoner": self.reasoner}

    @property
    def licenses(self) -> str:
        """Its licences, each named once."""
        return ", ".join(dict.fromkeys(part.license for part in self.parts.values()))

    @property
    def is_permissive(self) -> bool:
        """Whether all its licences are known to let everybody do anything."""
        return all(is_permissive(part.license) for part in self.parts.values())

    @property
    def download_bytes(self) -> int:
        """Bytes to download, as an estimate."""
        return sum(part.download_bytes for part in self.parts.values())

    @property
    def bundle_bytes(self) -> int:
        """Bytes of the bundle that a build makes unless told otherwise, as an estimate."""
        tower = sum(part.eyes.parameters for part in self.parts.values() if part.eyes)
        models = sum(part.llm.bundle_bytes for part in self.parts.values())
        return round(tower * _INT8_BYTES) + models

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory for one picture, of any size, as an estimate."""
        assert self.perceiver.eyes is not None
        return self._memory_bytes(self.perceiver.eyes.most_tokens)

    @property
    def one_tile_memory_bytes(self) -> int:
        """The same where it was built with `--max-tiles 1`."""
        assert self.perceiver.eyes is not None
        return self._memory_bytes(self.perceiver.eyes.tile_tokens)

    @property
    def command(self) -> str:
        """The command that builds it."""
        return f"edge-et build {self.name}"

    def _memory_bytes(self, image_tokens: int) -> int:
        seeing = image_tokens + (_BOTH if self.reasoner is None else _SEEING)
        memory = PROCESS_BYTES + self.bundle_bytes + self.perceiver.llm.memory_bytes(seeing)
        return (
            memory if self.reasoner is None else memory + self.reasoner.llm.memory_bytes(_THINKING)
        )
