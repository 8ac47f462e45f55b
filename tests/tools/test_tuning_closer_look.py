"""The closer look: what is cut out, and that it is seen as a picture of its own."""

import torch
from tiny.mini_vision import CHANNELS, tiny_tower

from edge_et.export.vision_modules import Dinov2Patches
from edge_et.tuning.closer_look import CLOSER_PIXELS, CloserLook, cut_out


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
    look = CloserLook(Dinov2Patches(model, CLOSER_PIXELS))
    pixels = torch.randn(2, 3, 224, 224)
    box = torch.tensor([0.5, 0.5, 0.5 / 1.15])
    with torch.no_grad():
        looks = look(pixels, box.expand(2, 3, 3))
        # Where a thing is shown as large as it is, its own pixels are what is looked at.
        states = model(pixels[:, :, 56:168, 56:168]).last_hidden_state
    assert looks.shape == (2, 3, look.width)
    grid = states[:, 1:].reshape(2, 8, 8, CHANNELS)
    wanted = torch.cat((states[:, 0], grid[:, 2:6, 2:6].mean(dim=(1, 2))), dim=-1)
    torch.testing.assert_close(looks, wanted.unsqueeze(1).expand(-1, 3, -1), atol=1e-4, rtol=1e-4)
