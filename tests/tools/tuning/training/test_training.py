"""Training: samples are what the runtime evaluates, branches are apart, killed runs go on."""

import contextlib
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from tiny.mini_vision import CHANNELS, CLASS_WORDS, PIXEL_ROWS, WIDTH, set_recipe, split_tiny
from tiny.tokenizer import write_tokenizer
from torch.nn.utils import parameters_to_vector
from transformers import LlamaConfig, LlamaForCausalLM

from edge_et.bundle import ChatSpec
from edge_et.errors import TuningError
from edge_et.image import ImageTokens
from edge_et.llm import Tokenizer, TokenSegment, end_turn, fill, to_segments, user_turn
from edge_et.tuning.mini import recipe
from edge_et.tuning.mini.concepts import PLACES
from edge_et.tuning.mini.facts import Label, ObjectFacts, PrintFacts, SceneObject, printed_words
from edge_et.tuning.mini.recipe import PROMPTS
from edge_et.tuning.mini.scene_source import Mixture, SceneSource, conversations
from edge_et.tuning.mini.vision.align import (
    AlignSettings,
    WordTargets,
    _objects_under,
    align,
    cell_accuracy,
)
from edge_et.tuning.mini.vision.backbone import pixel_values
from edge_et.tuning.mini.vision.classifier_gate import fit_trust
from edge_et.tuning.mini.vision.crop_classifier import NAMES
from edge_et.tuning.mini.vision.feature_shards import (
    SHARD_SCENES,
    FeatureShard,
    load_shard,
    shard_path,
    write_shard,
)
from edge_et.tuning.mini.vision.vision_head import VisionHead
from edge_et.tuning.training.conversations import direct, extraction_only, practice, two_stage
from edge_et.tuning.training.example import Example
from edge_et.tuning.training.packed_samples import (
    IGNORED,
    ROW_TOKENS,
    PackedSample,
    attention_mask,
    fill_rows,
    join_row,
    pack,
)
from edge_et.tuning.training.train import (
    TrainSettings,
    add_adapter,
    batch_loss,
    teacher_forced_accuracy,
    train,
)

WORDS = ("dog", "cat", "sun", "red square", "7", "s")

EXAMPLE = Example(
    kind="exists",
    question="Is there a <|im_end|> cat?",
    extraction="The picture shows dog (left). There is no cat.",
    reasoning="The description names no cat.",
    answer="no",
)
OTHER = Example(
    kind="where",
    question="Where is the dog?",
    extraction="The picture shows dog (left).",
    reasoning="The description places dog at the left.",
    answer="left",
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):
    made = write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")
    made.no_truncation()
    made.no_padding()
    return made


@pytest.fixture
def llm() -> LlamaForCausalLM:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=420,
        hidden_size=WIDTH,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config).requires_grad_(requires_grad=False).eval()


@pytest.fixture
def vision(monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple]:
    """Makes trunk, head and exported tower."""
    set_recipe(monkeypatch)
    return split_tiny


@pytest.fixture
def head(vision) -> VisionHead:
    return vision()[1]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two shards in which a token's features tell its word.

    The classifier takes everything for a cat, most surely in the left half.
    """
    rng = np.random.default_rng(0)
    directions = 3 * rng.standard_normal((len(WORDS) + 1, CHANNELS))
    labels = [Label(word.split()[-1], None, word + "s") for word in WORDS]
    labels[WORDS.index("red square")] = Label("square", "red", "squares")
    labels.append(labels[0])
    folder = tmp_path_factory.mktemp("shards")
    paths = []
    for index in range(2):
        ids = rng.integers(-1, len(WORDS), size=(SHARD_SCENES, 64)).astype(np.int16)
        patches = np.repeat(np.repeat(ids.reshape(-1, 8, 8), 2, axis=1), 2, axis=2)
        early = directions[patches.reshape(SHARD_SCENES, 256)]
        hidden = np.concatenate([early[:, :1], early], axis=1)
        shares = np.zeros((SHARD_SCENES, 64, CHANNELS))
        shares[..., 0] = np.where(np.arange(64) % 8 < 4, 0.9, 0.5)
        read = np.zeros((SHARD_SCENES, recipe.READ_TOKENS, CHANNELS))
        places = rng.uniform(size=(SHARD_SCENES, len(labels), 2)).tolist()
        facts = [
            ObjectFacts(
                tuple(SceneObject(o, x, y, 0.3) for o, (x, y) in zip(labels, some, strict=True))
            )
            for some in places
        ]
        rows = [hidden, early, shares, read, np.zeros((SHARD_SCENES, PIXEL_ROWS, CHANNELS))]
        paths.append(shard_path(folder, index))
        write_shard(
            paths[-1],
            FeatureShard(
                features=np.concatenate([r.astype(np.float16) for r in rows], axis=1),
                words=np.array(WORDS),
                token_words=np.stack([ids, np.full_like(ids, -1)], axis=2),
                token_shares=np.stack([ids >= 0, np.zeros_like(ids)], axis=2).astype(np.float16),
                centres=ids == 0,
                facts=np.array([msgspec.json.encode(f).decode() for f in facts]),
            ),
        )
    return paths


class KilledError(Exception):
    pass


def sample(rng: np.random.Generator, *branches: int) -> PackedSample:
    """Packs branches of random tokens, all but the first of each taught."""
    shared = 3 + recipe.IMAGE_TOKENS
    ids, targets = [1, 2, 3, *[0] * recipe.IMAGE_TOKENS], [IGNORED] * shared
    positions, owners = list(range(shared)), [0] * shared
    for number, length in enumerate(branches, 1):
        drawn = rng.integers(5, 400, length).tolist()
        ids += drawn
        targets += [*drawn[1:], IGNORED]
        positions += range(shared, shared + length)
        owners += [number] * length
    return PackedSample(np.array(ids), np.array(targets), np.array(positions), np.array(owners), 3)


def test_a_sample_is_the_token_sequence_of_the_runtime(tokenizer, tmp_path: Path):
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    runtime = Tokenizer(tmp_path / "tokenizer.json")
    chat = ChatSpec(
        turn_start=recipe.TURN_START,
        turn_end=recipe.TURN_END,
        system=None,
        stop_tokens=recipe.STOP_TOKENS,
    )
    image = ImageTokens(np.zeros((recipe.IMAGE_TOKENS, WIDTH), np.float32), "digest")
    values = {"question": OTHER.question}

    def ids(parts) -> list[int]:
        segments = to_segments(parts, runtime)
        return list(
            itertools.chain.from_iterable(
                s.ids if isinstance(s, TokenSegment) else [0] * len(s) for s in segments
            )
        )

    first = ids(user_turn(chat, fill(recipe.EXTRACT_PROMPT, values, image)))
    second = ids([*end_turn(chat), *user_turn(chat, fill(recipe.THINK_PROMPT, values))])
    thought = f"{OTHER.reasoning}\n{recipe.ANSWER_MARKER} {OTHER.answer}"
    expected = [*first, *runtime.encode(OTHER.extraction), *second, *runtime.encode(thought)]
    sample = pack([two_stage(OTHER, PROMPTS)], tokenizer, PROMPTS)
    assert sample.token_ids[: len(expected)].tolist() == expected

    asked = ids(user_turn(chat, fill(recipe.DIRECT_PROMPT, values, image)))
    expected = [*asked, *runtime.encode(OTHER.answer)]
    sample = pack([direct(OTHER, PROMPTS)], tokenizer, PROMPTS)
    assert sample.token_ids[: len(expected)].tolist() == expected


def test_what_is_taught_is_what_the_model_writes(tokenizer):
    sample = pack([two_stage(OTHER, PROMPTS), direct(EXAMPLE, PROMPTS)], tokenizer, PROMPTS)
    taught = sample.targets[sample.targets != IGNORED]
    texts = tokenizer.decode(taught.tolist(), skip_special_tokens=False).split("<|im_end|>\n")
    assert texts == [
        OTHER.extraction,
        f"{OTHER.reasoning}\nAnswer: {OTHER.answer}",
        EXAMPLE.answer,
        "",
    ]


def test_printed_words_are_taught_letter_by_letter(tokenizer):
    facts = PrintFacts("label", ("show", "12"))
    assert printed_words(facts) == {"show"}
    example = Example(
        kind="read_word",
        question="What shows the label, show or shower?",
        extraction="The label reads show, 12.",
        reasoning="The label says show.",
        answer="show",
    )
    turns = [two_stage(example, PROMPTS), direct(example, PROMPTS)]
    whole, spelled = (
        pack(turns, tokenizer, PROMPTS, [words] * 2) for words in ((), printed_words(facts))
    )
    written = ["Ġs", "h", "o", "w"]
    for sample, times in ((whole, 0), (spelled, 3)):
        tokens = [tokenizer.id_to_token(number) for number in sample.token_ids]
        found = [n for n in range(len(tokens)) if tokens[n : n + 4] == written]
        assert len(found) == times
        for start in found:
            assert sample.targets[start - 1 : start + 3].tolist() == [
                tokenizer.token_to_id(letter) for letter in written
            ]
        assert tokenizer.decode(sample.token_ids).count("show") == 13
    answer = [tokenizer.id_to_token(number) for number in spelled.token_ids[-6:-2]]
    assert answer == list("show")


def test_practice_teaches_to_think_over_an_extraction_that_is_given(tokenizer):
    words = [{OTHER.extraction.split()[-1].strip(".")}]
    sample, whole = (
        pack([turns(OTHER, PROMPTS)], tokenizer, PROMPTS, words) for turns in (practice, two_stage)
    )
    assert np.array_equal(sample.token_ids, whole.token_ids)
    taught = sample.targets[sample.targets != IGNORED]
    assert tokenizer.decode(taught.tolist()) == f"{OTHER.reasoning}\nAnswer: {OTHER.answer}\n"


def test_branches_see_the_image_and_themselves_alone(tokenizer, llm: LlamaForCausalLM):
    sample = pack([extraction_only(EXAMPLE, PROMPTS), direct(OTHER, PROMPTS)], tokenizer, PROMPTS)
    alone = pack([direct(OTHER, PROMPTS)], tokenizer, PROMPTS)

    def hidden(ids: np.ndarray, packed) -> torch.Tensor:
        with torch.no_grad():
            return llm.model(
                input_ids=torch.from_numpy(ids)[None],
                attention_mask=torch.from_numpy(attention_mask(packed.branches[None])),
                position_ids=torch.from_numpy(packed.positions)[None],
            )[0][0]

    usual = hidden(sample.token_ids, sample)[sample.branches == 2]
    changed = sample.token_ids.copy()
    changed[sample.branches == 1] = 7
    assert torch.equal(hidden(changed, sample)[sample.branches == 2], usual)
    torch.testing.assert_close(hidden(alone.token_ids, alone)[alone.branches == 1], usual)
    changed = sample.token_ids.copy()
    changed[sample.image_start] = 7
    assert not torch.equal(hidden(changed, sample)[sample.branches == 2], usual)


def test_rows_hold_every_sample_once_and_are_no_longer_than_need_be():
    rng = np.random.default_rng(0)
    samples = [sample(rng, int(n)) for n in rng.integers(20, 200, size=30)]
    rows = fill_rows(samples)
    assert sorted(itertools.chain.from_iterable(rows)) == list(range(30))
    lengths = [sum(len(samples[n].token_ids) for n in row) for row in rows]
    assert max(lengths) <= ROW_TOKENS
    assert sum(lengths) / (len(rows) * max(lengths)) > 0.8
    assert fill_rows([sample(rng, 2000)]) == [[0]]


def test_samples_of_one_row_do_not_see_each_other(llm: LlamaForCausalLM):
    rng = np.random.default_rng(1)
    samples = [sample(rng, 10, 30), sample(rng, 60), sample(rng, 5, 6, 7), sample(rng, 70, 80)]
    features = torch.randn(4, recipe.IMAGE_TOKENS, WIDTH)
    model, vision = add_adapter(llm, recipe.LORA), torch.nn.Identity()
    assert len(fill_rows(samples)) < 4
    taught = [int((s.targets != IGNORED).sum()) for s in samples]
    with torch.no_grad():
        alone = [
            float(batch_loss(model, vision, features[n : n + 1], samples[n : n + 1]))
            for n in range(4)
        ]
        together = float(batch_loss(model, vision, features, samples))
    assert together == pytest.approx(np.average(alone, weights=taught), abs=2e-3)
    joined = join_row(samples[:2])
    mask = attention_mask(joined.branches[None])[0, 0]
    first = len(samples[0].token_ids)
    assert not mask[first:, :first].any()


def test_trunk_and_head_are_the_tower_that_is_exported(vision):
    trunk, head, tower = vision()
    rng = np.random.default_rng(2)
    pictures = [rng.integers(0, 256, (224, 224, 3)).astype(np.uint8) for _ in range(2)]
    for tensor in (head.projector.place_codes, head.trust.vectors, head.trust.decide.bias):
        torch.nn.init.normal_(tensor)
    with torch.no_grad():
        whole = tower(pixel_values(pictures))
        parts = head(torch.from_numpy(trunk(pictures)).float())[:, : -recipe.READ_TOKENS]
    assert whole.shape == (
        2,
        recipe.SEEN_TOKENS + recipe.THING_TOKENS * recipe.LISTED_THINGS,
        WIDTH,
    )
    # The trunk works in bfloat16 where the processor can, and is kept in float16.
    torch.testing.assert_close(parts, whole, atol=0.05, rtol=0.05)


def test_alignment_names_cells_and_goes_on_after_a_kill(
    tokenizer, vision, shards: list[Path], tmp_path: Path
):
    torch.manual_seed(1)
    targets = WordTargets(torch.randn(420, WIDTH), tokenizer, WORDS)
    settings = AlignSettings(epochs=6, projector_rate=1e-2, checkpoint_steps=10)
    whole = vision()[1]
    align(whole, targets, shards[:1], tmp_path / "whole.pt", settings)
    assert cell_accuracy(whole, targets, shards[1:]) > 0.9

    def kill(record: dict) -> None:
        if record["step"] == 25:
            raise KilledError

    killed = vision()[1]
    with pytest.raises(KilledError):
        align(killed, targets, shards[:1], tmp_path / "killed.pt", settings, kill)
    resumed = vision()[1]
    align(resumed, targets, shards[:1], tmp_path / "killed.pt", settings)
    for once, again in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(once, again)


def test_the_classifier_is_trusted_where_it_is_right(head: VisionHead, shards: list[Path]):
    vectors = torch.randn(len(CLASS_WORDS), WIDTH)
    own = {name: tensor.clone() for name, tensor in head.projector.state_dict().items()}
    fit_trust(head, CLASS_WORDS, vectors, shards[:1], 0)
    for name, tensor in head.projector.state_dict().items():
        assert torch.equal(tensor, own[name])
    shard = load_shard(shards[1])
    features = torch.from_numpy(shard.features[:32]).float()
    with torch.no_grad():
        tokens = head(features)[:, : recipe.SEEN_TOKENS] - head.projector.place_codes
        trust = head.trust.logits(*head.judged(features)).sigmoid()
    a_cat = torch.from_numpy(shard.token_words[:32, :, 0] == WORDS.index("cat"))
    assert trust[a_cat].mean() > 0.9
    assert trust[~a_cat].mean() < 0.1
    likeness = torch.nn.functional.cosine_similarity(tokens, vectors[0], dim=-1)
    assert likeness[trust > 0.95].min() > 0.8


def test_without_trust_the_tokens_are_the_projectors(head: VisionHead, shards: list[Path]):
    features = torch.from_numpy(load_shard(shards[0]).features[:4]).float()
    torch.nn.init.constant_(head.trust.decide.bias, -1e4)
    torch.nn.init.normal_(head.trust.vectors)
    with torch.no_grad():
        seen = head(features)[:, : recipe.SEEN_TOKENS]
        torch.testing.assert_close(seen, head.own_tokens(features))


def test_features_of_another_version_are_told_by_name(head: VisionHead, shards: list[Path]):
    features = torch.from_numpy(load_shard(shards[0]).features[:1, :-PIXEL_ROWS]).float()
    with pytest.raises(TuningError, match="remove the folder 'features'"):
        head(features)


def test_of_a_photograph_the_classifiers_word_is_listed_alone(head: VisionHead, shards: list[Path]):
    features = torch.from_numpy(load_shard(shards[0]).features[:4]).float()
    torch.nn.init.normal_(head.trust.vectors)
    torch.nn.init.normal_(head.projector.place_codes)
    listing = head.inventory
    listing.begin_as(
        numbers=torch.randn(recipe.LISTED_THINGS, WIDTH),
        places=torch.randn(9, WIDTH),
        names=torch.randn(len(NAMES), WIDTH),
        size=torch.randn(WIDTH),
        otherwise=torch.randn(WIDTH),
        nothing=torch.zeros(WIDTH),
    )
    torch.nn.init.constant_(head.trust.decide.bias, 1e4)
    with torch.no_grad():
        listed = head(features)[:, recipe.SEEN_TOKENS : -recipe.READ_TOKENS]
        overall = head.judged(features)[1].mean(dim=1)
    word = overall**3 / (overall**3).sum(dim=-1, keepdim=True) @ head.trust.vectors
    assert (listed[:, 0] == listing.numbers[0] + listing.places[4]).all()
    # The fifth token of the fifth row lies in the middle.
    place = head.projector.place_codes[36] + 0.5 * listing.places[4]
    torch.testing.assert_close(listed[:, 1], word + place)
    assert (listed[:, 2:] == 0).all()


def test_all_tokens_of_an_object_tell_its_place_and_the_number_of_its_kind(shards: list[Path]):
    shard = load_shard(shards[0])
    places, counts = _objects_under(shard, 3)
    shown = shard.scene_facts(3).objects
    by_words = defaultdict(set)
    for item in shown:
        by_words[item.label.words].add(item.place)
    numbers = Counter(item.label.words for item in shown)
    names = [place for row in PLACES for place in row]
    for token, (place, count) in enumerate(zip(places, counts, strict=True)):
        word = shard.token_words[3, token, 0]
        if word < 0:
            assert place == count == -1
        else:
            words = str(shard.words[word])
            assert names[place] in by_words[words]
            assert count + 1 == numbers[words]


def test_a_step_always_draws_the_same_batch(tokenizer, shards: list[Path]):
    mixture = Mixture(extractions=1, captions=1, direct=2)

    def draw(step: int) -> tuple[torch.Tensor, list[PackedSample]]:
        return SceneSource(shards, mixture, 16, tokenizer, 0).batch(step)

    features, samples = draw(7)
    again, same = draw(7)
    assert torch.equal(features, again)
    assert features.shape == (16, 609 + PIXEL_ROWS, CHANNELS)
    for one, other in zip(samples, same, strict=True):
        assert np.array_equal(one.token_ids, other.token_ids)
        assert one.branches.max() == 4
    assert not torch.equal(features, draw(8)[0])
    scenes = torch.cat([draw(step)[0] for step in range(16)])
    assert len(torch.unique(scenes, dim=0)) == SHARD_SCENES


def test_practice_is_of_two_steps_about_any_scene_and_takes_nothing_from_the_others(
    tokenizer, shards: list[Path]
):
    plain, practised = (
        SceneSource(shards, Mixture(extractions=1, practice=number), 16, tokenizer, 0)
        for number in (0, 2)
    )
    for sample, more in zip(plain.batch(3)[1], practised.batch(3)[1], strict=True):
        shared = len(sample.token_ids)
        assert np.array_equal(more.token_ids[:shared], sample.token_ids)
        assert more.branches.max() == 3
        for branch in (2, 3):
            text = tokenizer.decode(more.token_ids[more.branches == branch].tolist())
            taught = more.targets[(more.branches == branch) & (more.targets != IGNORED)]
            assert "Describe the picture. Pay attention to:" in text
            assert "\nAnswer: " in tokenizer.decode(taught.tolist())
            assert "Describe" not in tokenizer.decode(taught.tolist())


def test_what_is_at_a_place_is_looked_up_where_several_things_are():
    cat, dog = (
        SceneObject(Label(name, None, f"{name}s"), x, 0.5, 0.3)
        for name, x in (("cat", 0.2), ("dog", 0.8))
    )
    mixture = Mixture(extractions=1, lookups=3, think_share=0.0)

    def further(*objects: SceneObject) -> list[str]:
        rng = np.random.default_rng(0)
        turns = conversations(ObjectFacts(objects), mixture, rng)[1:]
        assert all(use != "recalled" for turn in turns for _, use in turn)
        return ["".join(text for text, use in turn if use == "taught") for turn in turns]

    assert further(cat) == []
    told = further(cat, dog)
    assert len(told) == 3
    assert set(told) <= {
        f"The {place} of the picture shows {name}.<|im_end|>\n"
        for place, name in (("left", "cat"), ("right", "dog"))
    }


def test_nothing_to_practise_on_is_told(tokenizer, shards: list[Path], tmp_path: Path):
    shard = load_shard(shards[0])
    alone = ObjectFacts((SceneObject(Label("cat", None, "cats"), 0.5, 0.5, 0.5),))
    facts = np.array([msgspec.json.encode(alone).decode()] * SHARD_SCENES)
    write_shard(tmp_path / "shard.npz", replace(shard, features=shard.features[:, :1], facts=facts))
    source = SceneSource([tmp_path / "shard.npz"], Mixture(practice=1), 16, tokenizer, 0)
    with pytest.raises(TuningError, match="train without 'practice'"):
        source.batch(0)


def test_tuning_learns_and_goes_on_after_a_kill(
    tokenizer, llm: LlamaForCausalLM, vision, shards: list[Path], tmp_path: Path
):
    settings = TrainSettings(
        steps=24,
        train=("tower", "projector", "lora"),
        warmup=2,
        checkpoint_steps=8,
        evaluation_steps=12,
        llm_rate=1e-2,
    )
    source = SceneSource(shards, Mixture(extractions=1, direct=1), 4, tokenizer, 0)

    def run(folder: str, stop_at: int | None = None) -> tuple[list[dict], VisionHead]:
        records: list[dict] = []

        def on_step(record: dict) -> None:
            if record["step"] == stop_at:
                raise KilledError
            records.append(record)

        head = vision()[1]
        torch.manual_seed(9)
        model = add_adapter(
            LlamaForCausalLM(llm.config).requires_grad_(requires_grad=False), recipe.LORA
        )
        path = tmp_path / folder / "tune.pt"
        path.parent.mkdir(exist_ok=True)
        with contextlib.suppress(KilledError):
            train(
                model,
                head,
                source,
                path,
                settings,
                evaluate=lambda: {"direct": teacher_forced_accuracy(model, head, *source.batch(0))},
                on_step=on_step,
            )
        return records, head

    records, whole = run("whole")
    losses = [record["loss"] for record in records]
    assert max(losses[-6:]) < min(losses[:3])
    assert 0 <= records[11]["right"]["direct"] <= 1
    run("killed", stop_at=11)
    rest, resumed = run("killed")
    assert [record["step"] for record in rest] == list(range(9, 25))
    assert [record["loss"] for record in rest] == [record["loss"] for record in records[8:]]
    for once, again in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(once, again)
    log = (tmp_path / "killed" / "tune.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == list(range(1, 25))
    assert (tmp_path / "killed" / "tune.png").read_bytes().startswith(b"\x89PNG")


def test_only_what_is_asked_for_learns(
    tokenizer, llm: LlamaForCausalLM, vision, shards: list[Path], tmp_path: Path
):
    head = vision()[1]
    before = {name: p.clone() for name, p in head.named_parameters()}
    source = SceneSource(shards, Mixture(captions=1), 4, tokenizer, 0)
    settings = TrainSettings(steps=2, train=("projector",), warmup=1, projector_rate=1e-2)
    train(add_adapter(llm, recipe.LORA), head, source, tmp_path / "new" / "tune.pt", settings)
    changed = {name for name, p in head.named_parameters() if not torch.equal(p, before[name])}
    assert changed
    assert all(name.startswith(("projector.", "inventory.", "letters.")) for name in changed)


def test_what_weights_were_before_is_kept_in_part(
    tokenizer, llm: LlamaForCausalLM, vision, shards: list[Path], tmp_path: Path
):
    source = SceneSource(shards, Mixture(captions=1), 4, tokenizer, 0)

    def learnt(kept: float, stop_at: int | None = None) -> torch.Tensor:
        def on_step(record: dict) -> None:
            if record["step"] == stop_at:
                raise KilledError

        head = vision()[1]
        torch.manual_seed(9)
        model = add_adapter(
            LlamaForCausalLM(llm.config).requires_grad_(requires_grad=False), recipe.LORA
        )
        settings = TrainSettings(
            steps=3,
            train=("projector", "lora"),
            warmup=1,
            projector_rate=1e-2,
            checkpoint_steps=1,
            kept=kept,
        )
        path = tmp_path / str(kept) / "tune.pt"
        with contextlib.suppress(KilledError):
            train(model, head, source, path, settings, on_step=on_step)
        saved = torch.load(path, weights_only=True)
        weights = parameters_to_vector(
            [p for p in (*model.parameters(), *head.parameters()) if p.requires_grad]
        )
        if stop_at is None:
            assert torch.equal(saved["vision"]["projector.place_codes"], head.projector.place_codes)
        return weights.detach()

    all_the_way, not_at_all = learnt(0.0), learnt(1.0)
    assert not torch.equal(all_the_way, not_at_all)
    learnt(0.25, stop_at=3)
    torch.testing.assert_close(learnt(0.25), torch.lerp(all_the_way, not_at_all, 0.25))


def test_a_part_that_cannot_learn_is_named(llm: LlamaForCausalLM, head, tmp_path: Path):
    model = add_adapter(llm, recipe.LORA)
    with pytest.raises(TuningError, match="not both"):
        train(model, head, None, tmp_path / "a.pt", TrainSettings(steps=1, train=("lora", "llm")))
    settings = TrainSettings(steps=1, train=("projector",))
    with pytest.raises(TuningError, match="no projector"):
        train(model, torch.nn.Identity(), None, tmp_path / "a.pt", settings)


def test_accumulated_batches_are_one_larger_batch(
    tokenizer, llm: LlamaForCausalLM, vision, shards: list[Path], tmp_path: Path
):
    class Halves:
        """The same scenes, whole or in two parts with as many taught tokens."""

        def __init__(self, parts: int) -> None:
            self._parts = parts
            rng = np.random.default_rng(4)
            self._features = torch.randn(4, 609 + PIXEL_ROWS, CHANNELS)
            self._features[:, 577:609] = 0
            self._samples = [sample(rng, 20) for _ in range(4)]

        def batch(self, step: int) -> tuple[torch.Tensor, list[PackedSample]]:
            size = 4 // self._parts
            some = slice(step % self._parts * size, (step % self._parts + 1) * size)
            return self._features[some], self._samples[some]

    losses = []
    for parts in (1, 2):
        torch.manual_seed(11)
        records: list[dict] = []
        source = Halves(parts)
        settings = TrainSettings(steps=2, accumulate=parts, train=("projector",), warmup=1)
        path = tmp_path / f"{parts}.pt"
        train(
            add_adapter(llm, recipe.LORA),
            vision()[1],
            source,
            path,
            settings,
            on_step=records.append,
        )
        losses.append([record["loss"] for record in records])
    assert losses[0] == pytest.approx(losses[1], abs=2e-3)
