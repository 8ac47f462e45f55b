from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tiny.bundle import build_bundle
from tiny.fakes import ForcedKVCache
from tiny.thoughts import HINT, HINTED, THOUGHTS, change_bundle

from edge_et.bundle import Bundle, LanguageModelSpec, load_bundle
from edge_et.errors import DecodeError, ModelFileError
from edge_et.generation import MAX_DRAFT_TOKENS
from edge_et.llm import KVCacheSettings, Tokenizer
from edge_et.pipeline import ExtractThink, Settings, open_pipeline
from edge_et.store import Snapshots, SnapshotStore

CONTEXT = 512
HINTS = {"extract": {"prompt": HINTED, "hint": HINT}}
SETTINGS = Settings(threads=3, kv_type="f32", flash_attention=True)


class FakeModel:
    """Notes which caches are made over it, and whether it was closed."""

    def __init__(self, name: str, tokenizer: Tokenizer, most_caches: int) -> None:
        self.name = name
        self.made: list[KVCacheSettings] = []
        self.rested = 0
        self.closed = 0
        self.exact_draft_tokens = 0
        self._tokenizer = tokenizer
        self._most_caches = most_caches

    def new_kv_cache(self, settings: KVCacheSettings) -> ForcedKVCache:
        if len(self.made) == self._most_caches:
            raise DecodeError("told to have no memory")
        self.made.append(settings)
        kv_cache = ForcedKVCache(self._tokenizer, context_length=settings.context_length)
        exact = self.exact_draft_tokens
        kv_cache.max_draft_tokens = (
            exact if settings.max_draft_tokens is None else settings.max_draft_tokens
        )
        return kv_cache

    def rest(self) -> None:
        self.rested += 1

    def close(self) -> None:
        self.closed += 1


class Opener:
    """Opens fakes instead of models; the tower is never opened, since no picture comes."""

    def __init__(
        self,
        folder: Path,
        *,
        fails_with: str = "",
        most_caches: int = 9,
        exact_draft_tokens: int = 0,
    ) -> None:
        self.models: list[FakeModel] = []
        self._exact_draft_tokens = exact_draft_tokens
        self._snapshots = Snapshots(SnapshotStore(folder / "snapshots", 0), {})
        self._fails_with = fails_with
        self._most_caches = most_caches

    def __call__(self, bundle: Bundle, spec: LanguageModelSpec, tokenizer: Tokenizer) -> FakeModel:
        name = spec.weights.path
        if name == self._fails_with:
            raise ModelFileError(bundle.path(spec.weights), "told to fail")
        self.models.append(FakeModel(name, tokenizer, self._most_caches))
        self.models[-1].exact_draft_tokens = self._exact_draft_tokens
        return self.models[-1]

    def open(self, bundle: Bundle, settings: Settings = SETTINGS) -> ExtractThink:
        return open_pipeline(bundle, settings, snapshots=self._snapshots, open_model=self)


def new_bundle(folder: Path, *, two_models: bool = False, **changes: Any) -> Bundle:
    build_bundle(folder, two_models=two_models, context_length=CONTEXT)
    change_bundle(folder, **changes)
    return load_bundle(folder)


def lengths(opener: Opener) -> list[tuple[str, list[int]]]:
    return [(model.name, [made.context_length for made in model.made]) for model in opener.models]


@pytest.mark.parametrize(
    ("two_models", "changes", "expected"),
    [
        (False, {}, [("perceiver.gguf", [CONTEXT])]),
        (False, {"think": {"sees": "extraction"}}, [("perceiver.gguf", [CONTEXT, CONTEXT])]),
        (False, HINTS, [("perceiver.gguf", [CONTEXT, CONTEXT])]),
        (False, {"extract": {"hint": HINT}}, [("perceiver.gguf", [CONTEXT])]),
        (False, {"extract": {"prompt": HINTED}}, [("perceiver.gguf", [CONTEXT])]),
        (True, {}, [("perceiver.gguf", [CONTEXT]), ("reasoner.gguf", [CONTEXT])]),
        (True, HINTS, [("perceiver.gguf", [CONTEXT]), ("reasoner.gguf", [CONTEXT, CONTEXT])]),
    ],
)
def test_a_bundle_has_the_caches_that_it_needs(
    tmp_path: Path,
    two_models: bool,
    changes: dict[str, Any],
    expected: list[tuple[str, list[int]]],
) -> None:
    opener = Opener(tmp_path)
    with opener.open(new_bundle(tmp_path, two_models=two_models, **changes)) as pipeline:
        assert lengths(opener) == expected
        models = pipeline._models
        assert (models.reasoner is not None) == (two_models or "sees" in changes.get("think", {}))
        assert (models.hint_model is not None) == (changes == HINTS)
    assert [model.closed for model in opener.models] == [1] * len(expected)


def test_hints_are_asked_for_in_a_small_cache(tmp_path: Path) -> None:
    bundle = new_bundle(
        tmp_path, perceiver={"context_length": 3000}, think={"sees": "extraction"}, **HINTS
    )
    opener = Opener(tmp_path)
    opener.open(bundle).close()
    assert lengths(opener) == [("perceiver.gguf", [3000, 3000, 1024])]


@pytest.mark.parametrize(
    ("prompt_lookup", "exact", "asked"),
    [(False, 14, 0), (True, 14, MAX_DRAFT_TOKENS), (None, 14, None), (None, 0, None)],
)
def test_caches_are_made_as_the_settings_say(
    tmp_path: Path, prompt_lookup: bool | None, exact: int, asked: int | None
) -> None:
    settings = Settings(threads=3, kv_type="f32", flash_attention=True, prompt_lookup=prompt_lookup)
    opener = Opener(tmp_path, exact_draft_tokens=exact)
    with opener.open(new_bundle(tmp_path, two_models=True), settings) as pipeline:
        for model in opener.models:
            (made,) = model.made
            assert (made.threads, made.kv_type, made.flash_attention) == (3, "f32", True)
            assert made.max_draft_tokens == asked
        models = pipeline._models
        for chat_model in (models.perceiver, models.reasoner):
            assert chat_model is not None
            drafts = exact if prompt_lookup is None else prompt_lookup
            assert (chat_model.prompt_lookup is not None) == bool(drafts)


def test_what_a_model_learns_of_itself_holds_for_all_its_caches(tmp_path: Path) -> None:
    bundle = new_bundle(tmp_path, two_models=True, **HINTS)
    settings = Settings(threads=1, prompt_lookup=True)
    with Opener(tmp_path).open(bundle, settings) as pipeline:
        perceiver, reasoner = pipeline._models.perceiver, pipeline._models.reasoner
        hint_model = pipeline._models.hint_model
        assert reasoner is not None
        assert hint_model is not None
        assert reasoner.throughput is hint_model.throughput is not perceiver.throughput
        assert reasoner.prompt_lookup is hint_model.prompt_lookup is not perceiver.prompt_lookup
        assert reasoner.kv_cache is not hint_model.kv_cache


def test_every_model_stops_at_its_own_tokens(tmp_path: Path) -> None:
    bundle = new_bundle(tmp_path)
    with Opener(tmp_path).open(bundle) as pipeline:
        perceiver = pipeline._models.perceiver
        assert perceiver.chat == bundle.manifest.perceiver.chat
        assert perceiver.stop_ids == {
            perceiver.tokenizer.special_id(text)
            for text in bundle.manifest.perceiver.chat.stop_tokens
        }


def refused(bundle: Bundle, folder: Path, told: str) -> None:
    """Check that a bundle is refused for its tokenizer, and that nothing stays open."""
    opener = Opener(folder)
    with pytest.raises(ModelFileError, match=told) as caught:
        opener.open(bundle)
    assert caught.value.path == bundle.folder / "tokenizer.json"
    assert all(model.closed == 1 for model in opener.models)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path: Path) -> None:
    bundle = new_bundle(tmp_path)
    tokens = Tokenizer(tmp_path / "tokenizer.json").size
    fits = new_bundle(tmp_path, perceiver={"vocabulary_size": tokens})
    Opener(tmp_path).open(fits).close()
    assert bundle.manifest.perceiver.vocabulary_size > tokens
    short = new_bundle(tmp_path, perceiver={"vocabulary_size": tokens - 1})
    refused(short, tmp_path, f"{tokens} tokens, the manifest says {tokens - 1}")


@pytest.mark.parametrize("role", ["perceiver", "reasoner"])
def test_a_stop_token_that_is_none_is_refused(tmp_path: Path, role: str) -> None:
    bundle = new_bundle(tmp_path, two_models=True)
    chat = replace(getattr(bundle.manifest, role).chat, stop_tokens=("<|im_end|>", "<|nothing|>"))
    refused(
        new_bundle(tmp_path, two_models=True, **{role: {"chat": chat}}),
        tmp_path,
        r"'<\|nothing\|>', a stop token",
    )


@pytest.mark.parametrize("two_models", [False, True])
@pytest.mark.parametrize("mark", ["start", "end"])
def test_a_mark_of_thoughts_that_is_none_is_refused(
    tmp_path: Path, mark: str, two_models: bool
) -> None:
    thoughts = replace(THOUGHTS, **{mark: "<nothing>"})
    bundle = new_bundle(tmp_path, two_models=two_models, think={"thoughts": thoughts})
    refused(bundle, tmp_path, "'<nothing>', a mark of thoughts")


def test_a_model_that_fails_closes_those_before_it(tmp_path: Path) -> None:
    opener = Opener(tmp_path, fails_with="reasoner.gguf")
    with pytest.raises(ModelFileError):
        opener.open(new_bundle(tmp_path, two_models=True))
    assert [(model.name, model.closed) for model in opener.models] == [("perceiver.gguf", 1)]


def test_a_cache_that_fails_closes_its_model(tmp_path: Path) -> None:
    opener = Opener(tmp_path, most_caches=1)
    with pytest.raises(DecodeError):
        opener.open(new_bundle(tmp_path, **HINTS))
    assert [model.closed for model in opener.models] == [1]
