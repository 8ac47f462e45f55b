"""What a build may be told, and what that means for files and pictures."""

from pathlib import Path

import pytest
from PIL import Image

from edge_et.errors import OptionError
from edge_et.export.building.build_files import MOST_PICTURES, BuildOptions
from edge_et.export.errors import QuantizationError, UnknownQuantizationError
from edge_et.quantize.example_dialogues import EXAMPLES


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for number in range(MOST_PICTURES + 3):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"{number:02}.png")
    (tmp_path / "notes.txt").touch()
    return tmp_path


def test_the_first_pictures_of_a_folder_are_looked_at(pictures: Path) -> None:
    loaded = list(BuildOptions(pictures=pictures).load_pictures())
    reds = [picture.getpixel((0, 0)) for picture in loaded]
    assert reds == [(number, 0, 0) for number in range(MOST_PICTURES)]
    drawn = list(BuildOptions().load_pictures())
    assert [picture.size for picture in drawn] == [example.size for example in EXAMPLES]


@pytest.mark.parametrize(
    ("options", "bytes_a_weight", "bytes_a_tower_weight"),
    [
        (BuildOptions(quantization="F32", vision_quantization="none"), 4, 4),
        (BuildOptions(quantization="BF16"), 2, 1),
        (BuildOptions(quantization="Q8_0"), 1, 1),
    ],
)
def test_room_on_disk_is_never_underestimated(
    options: BuildOptions, bytes_a_weight: int, bytes_a_tower_weight: int
) -> None:
    assert bytes_a_weight <= options.weight_bytes <= 1.1 * bytes_a_weight
    assert bytes_a_tower_weight <= options.tower_weight_bytes <= 1.1 * bytes_a_tower_weight


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        (BuildOptions(quantization="Q9"), UnknownQuantizationError, "unknown quantization 'Q9'"),
        (BuildOptions(quantization="IQ2_M"), QuantizationError, "needs an importance matrix"),
        (BuildOptions(vision_quantization="int4"), UnknownQuantizationError, "known: none, int8"),
        (BuildOptions(max_tiles=0), OptionError, "max_tiles=0"),
        (BuildOptions(context_length=-1), OptionError, "context_length=-1"),
        (BuildOptions(pictures=Path("/nowhere")), QuantizationError, "not a folder"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(
    options: BuildOptions, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        options.check()


def test_options_that_can_be_done_pass(pictures: Path, tmp_path: Path) -> None:
    BuildOptions(quantization="IQ2_M", importance=True, pictures=pictures, max_tiles=1).check()
    BuildOptions(quantization="F16", vision_quantization="none").check()
    (tmp_path / "empty").mkdir()
    with pytest.raises(QuantizationError, match="holds no pictures"):
        BuildOptions(pictures=tmp_path / "empty").check()
