"""The inventory: what it lists, in which order; its finder and its namer learn."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from tiny.mini_vision import CHANNELS, WIDTH, set_recipe, split_tiny

from edge_et.tuning.mini import recipe
from edge_et.tuning.mini.facts import Label, ObjectFacts, SceneObject
from edge_et.tuning.mini.vision import inventory
from edge_et.tuning.mini.vision.crop_classifier import NAMES, CropClassifier, fit_namer
from edge_et.tuning.mini.vision.feature_shards import (
    SHARD_SCENES,
    FeatureShard,
    shard_path,
    write_shard,
)
from edge_et.tuning.mini.vision.inventory import Inventory, Look, fit_finder

SIDE = 16
LOOKS = 3
MOST = 5


@pytest.fixture
def listing() -> Inventory:
    """Tells numbers as hundreds, places as ones; adds 1000 to what is large, 50 to what else."""
    made = Inventory(CHANNELS, LOOKS, MOST, WIDTH)
    numbers = torch.arange(1.0, MOST + 1).unsqueeze(1).expand(-1, WIDTH) * 100
    places = torch.arange(9.0).unsqueeze(1).expand(-1, WIDTH)
    names = torch.zeros(len(NAMES), WIDTH)
    names[0, 0] = names[1, 1] = 5.0
    names[2, 3] = names[3, 4] = 1.0
    size, otherwise, nothing = (torch.full((WIDTH,), value) for value in (1000.0, 50.0, -1.0))
    made.begin_as(
        numbers=numbers,
        places=places,
        names=names,
        size=size,
        otherwise=otherwise,
        nothing=nothing,
    )
    return made


def found(*centres: tuple[int, int, float]) -> torch.Tensor:
    """Makes what a finder tells: rows, columns and sizes of centres, the later the less sure."""
    told = torch.full((1, 2, SIDE, SIDE), -5.0)
    for number, (row, column, size) in enumerate(centres):
        told[0, :, row, column] = torch.tensor([4.0 - 0.1 * number, np.log2(size)])
    return told


def tokens_of(
    listing: Inventory,
    told: torch.Tensor,
    look: Look,
    taken: float = 0.0,
    passed_over: bool = False,
) -> torch.Tensor:
    """Lists what is told; tokens of what is seen show a third kind, places add hundredths."""
    listing.finder.forward = lambda patches: told  # type: ignore[method-assign]
    pictures = len(told)
    kinds = torch.zeros(pictures, 64, WIDTH)
    kinds[:, :, 2] = 5.0
    codes = torch.arange(64.0).unsqueeze(1).expand(-1, WIDTH) * 0.01
    with torch.no_grad():
        tokens = listing(
            torch.zeros(pictures, SIDE**2, CHANNELS),
            look,
            kinds,
            torch.full((pictures, 64, 1), taken),
            codes,
            torch.full((pictures, 1), passed_over),
        )
    assert tokens.shape == (pictures, 3 * MOST, WIDTH)
    return tokens


def listed(
    listing: Inventory, told: torch.Tensor, taken: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Lists things where the upper half of the picture looks one way, the lower half another.

    What is a little to the right in the upper half is taken for another kind, alone.

    Args:
        listing: Lists.
        told: By the finder.
        taken: Whether the tokens of what is seen stand for things; they show a third kind.

    Returns:
        The tokens of numbers, of kinds, and of what else these may be.
    """

    def look(boxes: torch.Tensor) -> torch.Tensor:
        lower = (boxes[..., 1] > 0.5).float()
        odd = (1 - lower) * (boxes[..., 0] > 0.5)
        return torch.stack((1 - lower, lower, odd * 0.5), dim=-1)

    def namer(looks: torch.Tensor) -> torch.Tensor:
        logits = torch.full((*looks.shape[:2], len(NAMES)), -180.0)
        logits[..., 0] = looks[..., 0] * 80
        logits[..., 1] = looks[..., 1] * 80
        logits[..., 2] = looks[..., 2] * 444 - 140
        logits[..., 3] = -160
        return logits

    listing.namer.forward = namer  # type: ignore[method-assign]
    tokens = tokens_of(listing, told, look, taken)[0]
    return tokens[0::3], tokens[1::3], tokens[2::3]


def test_kinds_are_listed_in_reading_order_with_their_numbers(listing: Inventory):
    numbers, kinds, others = listed(listing, found((14, 2, 0.3), (3, 9, 0.3), (3, 1, 0.3)))
    assert numbers[:, 0].tolist() == [200, 106, -1, -1, -1]
    # Beside the name stands half the number of several things; of a single one, half the place, and
    # the finer place.
    torch.testing.assert_close(kinds[:2, 5], torch.tensor([100.0, 3.57]))
    torch.testing.assert_close(others[:2, 5], torch.tensor([150.0, 53.57]))
    torch.testing.assert_close(kinds[:2, 0] - kinds[:2, 5], torch.tensor([5.0, 0.0]))
    torch.testing.assert_close(kinds[:2, 1] - kinds[:2, 5], torch.tensor([0.0, 5.0]))
    assert (kinds[2:] == -1).all()


def test_places_of_a_row_are_listed_from_the_left(listing: Inventory):
    numbers, kinds, _ = listed(listing, found((6, 13, 0.3), (9, 2, 0.3)))
    assert numbers[:2, 0].tolist() == [103, 105]
    torch.testing.assert_close(kinds[:2, 5], torch.tensor([1.5 + 0.33, 2.5 + 0.30]))


def test_things_of_a_kind_are_named_together(listing: Inventory):
    numbers, alone, _ = listed(listing, found((3, 9, 0.3)))
    assert numbers[0, 0] == 101
    assert alone[0, 3] - alone[0, 5] == 1
    numbers, kinds, _ = listed(listing, found((3, 2, 0.3), (3, 9, 0.3), (3, 5, 0.3)))
    assert numbers[:, 0].tolist() == [300, -1, -1, -1, -1]
    assert kinds[0, 0] - kinds[0, 5] == 5


def test_what_else_a_thing_may_be_is_listed_behind_it(listing: Inventory):
    _, kinds, others = listed(listing, found((14, 2, 0.3)))
    place, doubt = kinds[0, 5], others[0] - kinds[0, 5] - 50
    assert kinds[0, 1] - place == 5
    # The lower half's kind; the upper half's is next, then two that look like nothing here.
    torch.testing.assert_close(doubt[[0, 1, 3, 4]], torch.tensor([0.5 * 5, 0.0, 0.3, 0.2]))
    assert (others[1:] == -1).all()


def test_what_is_seen_stands_for_a_thing_where_it_is_taken(listing: Inventory):
    _, kinds, _ = listed(listing, found((3, 2, 0.3)), taken=1.0)
    assert kinds[0, 2] - kinds[0, 5] == pytest.approx(5.0)
    assert kinds[0, 0] == kinds[0, 5]


@pytest.mark.parametrize(
    ("sizes", "beside"),
    [((0.1, 0.4, 0.2), (-1, 0)), ((0.4, 0.2, 0.1), (1, -1)), ((0.2, 0.2, 0.2), (0, 0))],
)
@pytest.mark.parametrize("scale", [1, 2])
def test_sizes_are_told_beside_the_others_of_the_picture(
    listing: Inventory, sizes: tuple[float, ...], beside: tuple[int, int], scale: int
):
    first, second, third = (size * scale for size in sizes)
    _, kinds, _ = listed(listing, found((2, 2, first), (7, 7, second), (12, 12, third)))
    wanted = [100 + 1000 * beside[0], 4.54 + 1000 * beside[1]]
    assert kinds[:2, 5].tolist() == pytest.approx(wanted, abs=1.0)


def test_neighbours_are_one_thing_and_the_surest_are_looked_at(listing: Inventory):
    looked_at = []

    def look(boxes: torch.Tensor) -> torch.Tensor:
        looked_at.append((boxes[0, :, :2] * SIDE).int().tolist())
        return torch.zeros(*boxes.shape[:2], LOOKS)

    many = [(1 + 3 * (n // 3), 2 + 5 * (n % 3), 0.2) for n in range(7)]
    told = found((0, 0, 0.2), (0, 1, 0.2), *many)
    told[0, 0, 0, 1] = 3.5
    tokens_of(listing, told, look)
    assert looked_at == [[[0, 0], [2, 1], [2, 4], [7, 1], [12, 1]]]


@pytest.mark.parametrize(
    ("second", "number"),
    [((8, 11, 0.6), 1), ((8, 13, 0.6), 2), ((8, 9, 0.1), 1), ((11, 6, 0.1), 1), ((12, 6, 0.1), 2)],
    ids=["as large", "beside", "a part", "a lower part", "below"],
)
def test_a_large_thing_that_is_found_twice_is_one(
    listing: Inventory, second: tuple[int, int, float], number: int
):
    first = (8, 6, 0.6)
    looked_at = []

    def look(boxes: torch.Tensor) -> torch.Tensor:
        looked_at.append((boxes[0, :, :2] * SIDE).int().tolist())
        return torch.zeros(*boxes.shape[:2], LOOKS)

    tokens_of(listing, found(first, second), look)
    both = [[first[1], first[0]], [second[1], second[0]]]
    assert looked_at == [both[:number]]


def test_no_more_than_what_is_there_is_looked_at(listing: Inventory):
    looked_at = []

    def look(boxes: torch.Tensor) -> torch.Tensor:
        looked_at.append(boxes)
        return torch.zeros(*boxes.shape[:2], LOOKS)

    told = torch.cat((found((14, 2, 0.3)), found((3, 9, 0.2), (3, 1, 0.4), (9, 9, 0.1))))
    tokens_of(listing, told, look)
    (boxes,) = looked_at
    assert boxes.shape == (2, 3, 3)
    torch.testing.assert_close(boxes[0, 0], torch.tensor([2.5 / 16, 14.5 / 16, 0.3]))
    torch.testing.assert_close(boxes[1, :, 2], torch.tensor([0.4, 0.2, 0.1]))
    assert (tokens_of(listing, told, look, passed_over=True) == -1).all()
    assert looked_at[1].shape == (2, 1, 3)


@pytest.mark.parametrize(
    ("degrees", "names", "numbers"),
    [
        ((0, 30, 60, 180), (0, 1, 2, 3), [300, 103]),
        ((0, 90, 180, 270), (0, 1, 0, 2), [200, 100, 103]),
        ((0, 0, 90, 90), (0, 1, 2, 3), [200, 200]),
        ((0, 40, 80, 120), (0, 1, 2, 3), [100, 100, 103, 103]),
    ],
    ids=["alike by way of another", "named alike", "look alike", "only a little alike"],
)
def test_things_that_look_alike_or_are_named_alike_are_of_a_kind(
    listing: Inventory, degrees: tuple[int, ...], names: tuple[int, ...], numbers: list[int]
):
    angles = torch.tensor(degrees).deg2rad()
    looks = torch.stack((angles.cos(), angles.sin(), torch.zeros(4)), dim=-1).unsqueeze(0)

    def namer(looks: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*looks.shape[:2], len(NAMES))
        logits[0, range(4), names] = 100.0
        return logits

    listing.namer.forward = namer  # type: ignore[method-assign]
    told = found((1, 1, 0.3), (4, 1, 0.3), (7, 1, 0.3), (10, 1, 0.3))
    tokens = tokens_of(listing, told, lambda boxes: looks)[0, ::3, 0].tolist()
    assert tokens == numbers + [-1] * (MOST - len(numbers))


def test_of_what_is_hardly_sure_one_is_listed(listing: Inventory):
    told = found((3, 1, 0.3), (14, 2, 0.3))
    told[:, 0] -= 7.0
    numbers, _, _ = listed(listing, told)
    assert numbers[:, 0].tolist() == [100, -1, -1, -1, -1]


def test_an_empty_picture_lists_nothing(listing: Inventory):
    for tokens in listed(listing, found()):
        assert (tokens == -1).all()


def test_the_finder_learns_where_things_are_and_how_large(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(inventory, "_STEPS", 150)
    set_recipe(monkeypatch)
    head = split_tiny()[1]
    before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    fit_finder(head, [things(tmp_path, 0)], 0)
    for name, tensor in head.state_dict().items():
        assert ".finder." in name or torch.equal(tensor, before[name])
    again = split_tiny()[1]
    fit_finder(again, [things(tmp_path, 0)], 0)
    features = torch.from_numpy(np.load(things(tmp_path, 1))["features"]).float()
    with torch.no_grad():
        centres, sizes = head.inventory.finder(head.patches(features)).unbind(dim=1)
        same = again.inventory.finder(again.patches(features))[:, 0]
    torch.testing.assert_close(centres, same)
    there = features[:, 257:513, 0].reshape(-1, SIDE, SIDE) > 0
    assert centres[there].sigmoid().min() > 0.5
    assert centres[~there].sigmoid().max() < 0.5
    wanted = features[:, 257:513, 1].reshape(-1, SIDE, SIDE)[there]
    assert torch.nn.functional.l1_loss(sizes[there], torch.log2(wanted)) < 0.5


def test_names_are_learnt_from_looks():
    torch.manual_seed(0)
    kinds = torch.randn(3, CHANNELS)
    names = torch.arange(3).repeat_interleave(40)
    looks = kinds[names] + 0.5 * torch.randn(len(names), CHANNELS) + 3
    namer = CropClassifier(CHANNELS, WIDTH)
    fit_namer(namer, looks, names)
    with torch.no_grad():
        named = namer(kinds + 3 - namer.middle).argmax(dim=-1)
    assert named.tolist() == [0, 1, 2]
    assert (namer.tokens == 0).all()


def things(folder: Path, index: int) -> Path:
    """A shard in whose patch features centres and sizes stand written."""
    rng = np.random.default_rng(index)
    features = np.zeros(
        (SHARD_SCENES, 513 + recipe.SEEN_TOKENS + recipe.READ_TOKENS, CHANNELS), np.float16
    )
    facts = []
    for scene in range(SHARD_SCENES):
        cells = rng.choice(SIDE**2, size=3, replace=False)
        sizes = rng.choice([0.15, 0.6], size=3)
        features[scene, 257 + cells, 0] = 4
        features[scene, 257 + cells, 1] = sizes
        features[scene, 257 + cells, 2] = 8 * (sizes - 0.4)
        names = rng.choice(["cat", "dog"], size=3)
        features[scene, 257 + cells, 3] = np.where(names == "cat", 8, -8)
        objects = tuple(
            SceneObject(
                Label(name, None, f"{name}s"),
                (cell % SIDE + 0.5) / SIDE,
                (cell // SIDE + 0.5) / SIDE,
                size,
            )
            for cell, size, name in zip(cells.tolist(), sizes.tolist(), names.tolist(), strict=True)
        )
        facts.append(msgspec.json.encode(ObjectFacts(objects)).decode())
    path = shard_path(folder, index)
    empty = np.zeros((SHARD_SCENES, 64, 2))
    write_shard(
        path,
        FeatureShard(
            features=features,
            words=np.array(["cat"]),
            token_words=empty.astype(np.int16),
            token_shares=empty.astype(np.float16),
            centres=empty[..., 0] > 0,
            facts=np.array(facts),
        ),
    )
    return path
