from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from edge_et.export.errors import (
    LeftoverTensorError,
    MissingTensorError,
    TensorShapeError,
    UnreadableCheckpointError,
)
from edge_et.export.vision.projector import PixelShuffleProjector, pixel_shuffle
from edge_et.export.vision.projector_files import load_projector, save_projector


def test_a_token_holds_its_block_in_reading_order() -> None:
    # 2 x 4 patches of 2 channels: patch p has channels 10 p and 10 p + 1.
    patches = torch.arange(8.0)[:, None] * 10 + torch.arange(2.0)
    shuffled = pixel_shuffle(patches[None], (2, 4), 2)
    assert shuffled.tolist() == [[[0, 1, 10, 11, 40, 41, 50, 51], [20, 21, 30, 31, 60, 61, 70, 71]]]


def test_a_factor_of_one_changes_nothing() -> None:
    patches = torch.randn(2, 9, 5)
    assert torch.equal(pixel_shuffle(patches, (3, 3), 1), patches)


@pytest.mark.parametrize(("grid", "factor"), [((3, 3), 2), ((2, 2), 2)])
def test_blocks_that_do_not_tile_the_patches_are_refused(
    grid: tuple[int, int], factor: int
) -> None:
    with pytest.raises(ValueError, match="patches"):
        pixel_shuffle(torch.zeros(1, 9, 1), grid, factor)


def test_a_code_tells_each_token_of_its_place(tmp_path: Path) -> None:
    projector = PixelShuffleProjector(8, 2, 8, 8, places=4)
    same = torch.randn(1, 1, 8).expand(1, 16, 8)
    assert torch.allclose(projector(same)[0, 0], projector(same)[0, 3])
    torch.nn.init.normal_(projector.place_codes)
    assert not torch.allclose(projector(same)[0, 0], projector(same)[0, 3])
    save_projector(projector, tmp_path)
    assert torch.equal(load_projector(tmp_path)(same), projector(same))


def test_the_default_is_a_small_dinov2_and_a_small_llm() -> None:
    projector = PixelShuffleProjector()
    assert projector(torch.zeros(2, 256, 384)).shape == (2, 64, 576)
    with pytest.raises(ValueError, match="square"):
        projector(torch.zeros(1, 128, 384))


def test_a_saved_projector_is_the_same(projector_folder: Path) -> None:
    projector = load_projector(projector_folder)
    patches = torch.randn(1, 16, 32)
    torch.manual_seed(5)
    assert torch.equal(projector(patches), PixelShuffleProjector(32, 2, 48, 64)(patches))


def test_a_half_precision_projector_is_stored_in_float32(tmp_path: Path) -> None:
    save_projector(PixelShuffleProjector(8, 2, 8, 8).half(), tmp_path)
    dtypes = {tensor.dtype for tensor in load_file(tmp_path / "projector.safetensors").values()}
    assert dtypes == {torch.float32}


def test_damaged_projectors_are_refused(tmp_path: Path) -> None:
    save_projector(PixelShuffleProjector(8, 2, 8, 8), tmp_path)
    weights = load_file(tmp_path / "projector.safetensors")

    def store(changed: dict[str, torch.Tensor]) -> None:
        save_file(changed, tmp_path / "projector.safetensors")

    store({**weights, "extra": torch.zeros(1)})
    with pytest.raises(LeftoverTensorError, match="extra"):
        load_projector(tmp_path)
    store({name: tensor for name, tensor in weights.items() if name != "norm.bias"})
    with pytest.raises(MissingTensorError, match=r"norm\.bias"):
        load_projector(tmp_path)
    store({**weights, "norm.bias": torch.zeros(3)})
    with pytest.raises(TensorShapeError, match=r"norm\.bias"):
        load_projector(tmp_path)
    (tmp_path / "projector.json").write_text('{"vision_width": 8}')
    with pytest.raises(UnreadableCheckpointError, match="factor"):
        load_projector(tmp_path)
