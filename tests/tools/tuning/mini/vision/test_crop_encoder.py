"""The closer look: what it is shown, that this is a picture of its own to it, and how it learns."""

from pathlib import Path

import pytest
import torch
from tiny.mini_vision import CHANNELS, WIDTH, set_recipe, tiny_tower

from edge_et.export.vision.torch_tower import Dinov2Patches
from edge_et.tuning.mini.vision import train_crop_encoder as training
from edge_et.tuning.mini.vision.crop_classifier import CropClassifier, fit_namer
from edge_et.tuning.mini.vision.crop_encoder import CLOSER_PIXELS, CropEncoder, cut_out
from edge_et.tuning.mini.vision.crops import CUTOUT_PIXELS, Cutouts
from edge_et.tuning.mini.vision.train_crop_encoder import look_at, train_closer_look


def test_a_thing_is_cut_out_enlarged_with_a_little_around_it():
    pixels = torch.zeros(2, 3, 224, 224)
    pixels[1, :, 56:84, 140:168] = 1.0
    boxes = torch.tensor([[0.6875, 0.3125, 0.125], [0.25, 0.75, 0.25]]).expand(2, -1, -1)
    cut = cut_out(pixels, boxes)
    assert cut.shape == (4, 3, CLOSER_PIXELS, CLOSER_PIXELS)
    assert (cut[[0, 1, 3]] == 0).all()
    shown = (cut[2, 0] > 0.5).float()
    assert 1 / 1.15**2 - 0.02 < shown.mean() < 1 / 1.15**2 + 0.02
    assert shown[:4].sum() == shown[-4:].sum() == shown[:, :4].sum() == shown[:, -4:].sum() == 0


def test_a_thing_is_seen_as_if_it_were_the_picture():
    model = tiny_tower()
    look = CropEncoder(Dinov2Patches(model, CLOSER_PIXELS))
    pixels = torch.randn(2, 3, 224, 224)
    box = torch.tensor([0.5, 0.5, 0.75 / 1.15])
    with torch.no_grad():
        looks = look(pixels, box.expand(2, 3, 3))
        # Where a thing is shown as large as it is, its own pixels are what is looked at.
        states = model(pixels[:, :, 28:196, 28:196]).last_hidden_state
    assert looks.shape == (2, 3, look.width)
    grid = states[:, 1:].reshape(2, 12, 12, CHANNELS)
    wanted = torch.cat((states[:, 0], grid[:, 3:9, 3:9].mean(dim=(1, 2))), dim=-1)
    torch.testing.assert_close(looks, wanted.unsqueeze(1).expand(-1, 3, -1), atol=1e-4, rtol=1e-4)


@pytest.fixture
def closer(monkeypatch: pytest.MonkeyPatch) -> CropEncoder:
    set_recipe(monkeypatch)
    return CropEncoder(Dinov2Patches(tiny_tower(), CLOSER_PIXELS))


def test_additions_are_for_the_closer_look_alone(closer: CropEncoder):
    pixels = torch.randn(1, 3, CLOSER_PIXELS, CLOSER_PIXELS)
    with torch.no_grad():
        before, tower = closer.look(pixels), closer.backbone(pixels)
        closer.additions[-1].up.weight.normal_()
        assert not torch.allclose(closer.look(pixels), before, atol=1e-3)
        assert torch.equal(closer.backbone(pixels), tower)
    own = {id(p) for p in closer.parameters()} - {id(p) for p in closer.backbone.parameters()}
    assert own == {id(p) for p in closer.additions.parameters()}


class KilledError(Exception):
    pass


def pictures_of_two_kinds() -> Cutouts:
    """Upright and lying bars, in any colour and place."""
    generator = torch.Generator().manual_seed(2)
    names = torch.arange(96) % 2
    cutouts = torch.randint(0, 60, (96, 3, CUTOUT_PIXELS, CUTOUT_PIXELS), generator=generator)
    for cutout, name in zip(cutouts, names, strict=True):
        row, column = torch.randint(45, 75, (2,), generator=generator).tolist()
        height, width = (50, 12) if name else (12, 50)
        colour = torch.randint(100, 256, (3, 1, 1), generator=generator)
        cutout[:, row : row + height, column : column + width] = colour
    return Cutouts(cutouts.to(torch.uint8), names)


def test_the_closer_look_learns_and_goes_on_after_a_kill(
    closer: CropEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(training, "_CHECKPOINT_STEPS", 3)
    monkeypatch.setattr(training, "_WARMUP", 2)
    monkeypatch.setattr(training, "_RATE", 3e-2)
    monkeypatch.setattr(training, "_THINGS", 48)
    # A tiny tower is less sure of itself.
    monkeypatch.setattr(training, "_SOFTENED", 2.0)
    things = pictures_of_two_kinds()
    others = Cutouts(things.pictures.flip(2), things.kinds + 1)
    tower = [weight.clone() for weight in closer.backbone.parameters()]
    losses: dict[int, float] = {}

    def run(kill_after: int | None = None) -> tuple[CropEncoder, CropClassifier]:
        made = CropEncoder(Dinov2Patches(tiny_tower(), CLOSER_PIXELS))
        namer = CropClassifier(made.width, WIDTH)

        def on_step(record: dict) -> None:
            assert losses.setdefault(record["step"], record["loss"]) == record["loss"]
            if record["step"] == kill_after:
                raise KilledError

        train_closer_look(
            made, namer, things, others, tmp_path / "names.pt", epochs=8, seed=4, on_step=on_step
        )
        return made, namer

    with pytest.raises(KilledError):
        run(kill_after=5)
    learnt, namer = run()
    assert list(losses) == list(range(1, 17))
    assert losses[16] < losses[1] - 0.1
    (tmp_path / "names.pt").rename(tmp_path / "first.pt")
    for made, told in (run(), run()):
        for one, other in zip(
            made.additions.parameters(), learnt.additions.parameters(), strict=True
        ):
            assert torch.equal(one, other)
        assert torch.equal(told.tell.weight, namer.tell.weight)
        assert torch.equal(told.middle, namer.middle)
    wanted = CropClassifier(learnt.width, WIDTH)
    fit_namer(wanted, look_at(learnt, things.pictures), things.kinds)
    torch.testing.assert_close(namer.tell.weight, wanted.tell.weight)
    assert all(map(torch.equal, tower, learnt.backbone.parameters()))
