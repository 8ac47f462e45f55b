"""The reader of print: what it reads, where, and that a bundle's graph reads the same."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image, ImageDraw, ImageFont
from tiny.mini_vision import set_recipe, split_tiny
from tiny.places import EXAMPLES

from edge_et.errors import TuningError
from edge_et.export.vision.export_tower import export_tower
from edge_et.export.vision.onnx_graph import open_session, run_graph
from edge_et.quantize.vision_methods import weight_only
from edge_et.tuning.mini import recipe
from edge_et.tuning.mini.ocr import letters, weights
from edge_et.tuning.mini.ocr.attach import attach_reader
from edge_et.tuning.mini.ocr.graph import PrintReader
from edge_et.tuning.mini.ocr.lines import LINES
from edge_et.tuning.mini.ocr.weights import CHARACTERS, find_reader_models, load_recognizer
from edge_et.tuning.mini.vision.backbone import TOWER_PIXELS, pixel_values


@pytest.fixture(scope="module")
def reader() -> PrintReader:
    return PrintReader()


def sign(*lines: str, size: int = 40, turn: float = 0.0) -> np.ndarray:
    """Draws lines of black print on a pale board, each in the middle of its share of the height."""
    picture = Image.new("RGB", (TOWER_PIXELS, TOWER_PIXELS), (225, 222, 200))
    pen = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        place = (TOWER_PIXELS / 2, TOWER_PIXELS * (number + 0.5) / len(lines))
        pen.text(place, line, (20, 20, 30), ImageFont.load_default(size), anchor="mm")
    return np.asarray(
        picture.rotate(turn, Image.Resampling.BICUBIC, fillcolor=(225, 222, 200)), np.uint8
    )


def lines_of(reading: np.ndarray) -> list[str]:
    """Writes out what was read of one picture."""
    lines: list[str] = []
    for code, _, _, begins in reading[reading[:, 0] > 0]:
        lines[len(lines) :] = [""] if begins else []
        lines[-1] += CHARACTERS[int(code) - 1]
    return lines


@pytest.mark.parametrize(
    ("lines", "size", "turn"),
    [
        (("Bakery",), 44, 0),
        (("WELCOME",), 40, 8),
        (("bakery",), 44, -8),
        (("4207",), 70, 0),
        (("soup 12", "tea 3"), 44, 0),
        (("14 + 3",), 50, 0),
    ],
)
def test_print_is_read_line_by_line(
    reader: PrintReader, lines: tuple[str, ...], size: int, turn: float
):
    (reading,) = reader(pixel_values([sign(*lines, size=size, turn=turn)]).numpy())
    assert reading.shape == (letters.READ, 4)
    assert lines_of(reading) == [line.lower() for line in lines]


def test_characters_are_where_they_stand(reader: PrintReader):
    (reading,) = reader(pixel_values([sign("left", "right", size=50)]).numpy())
    assert lines_of(reading) == ["left", "right"]
    _, x, y, begins = reading[reading[:, 0] > 0].T
    assert begins.tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 0]
    assert y == pytest.approx([0.25] * 4 + [0.75] * 5, abs=0.05)
    for row in (x[:4], x[4:]):
        assert (np.diff(row) > 0).all()
        assert row.mean() == pytest.approx(0.5, abs=0.05)


def test_pictures_are_read_apart(reader: PrintReader):
    pictures = [sign("one"), np.full((224, 224, 3), 128, np.uint8), sign("three", "3")]
    pixels = pixel_values(pictures).numpy()
    together = reader(pixels)
    assert [lines_of(reading) for reading in together] == [["one"], [], ["three", "3"]]
    alone = np.concatenate([reader(one[None]) for one in pixels])
    np.testing.assert_array_equal(together[..., 0], alone[..., 0])
    np.testing.assert_allclose(together, alone, atol=1e-3)


def test_more_print_than_there_is_room_for_ends_early(reader: PrintReader):
    lines = [f"{number}23456789" for number in range(1, 7)]
    (reading,) = reader(pixel_values([sign(*lines, size=28)]).numpy())
    assert (reading[:, 0] > 0).all()
    assert lines_of(reading)[:3] == lines[:3]


def test_noise_and_photographs_hold_no_print(reader: PrintReader):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (TOWER_PIXELS, TOWER_PIXELS, 3)).astype(np.uint8)
    sides = (TOWER_PIXELS, TOWER_PIXELS)
    cat = np.asarray(Image.open(EXAMPLES / "cat.png").convert("RGB").resize(sides))
    many = np.tile(sign("a", size=20)[96:128, 96:128], (7, 7, 1))
    read = reader(pixel_values([noise, cat, many]).numpy())
    assert np.isfinite(read).all()
    assert not read[1].any()
    assert sum(read[2, :, 3]) <= LINES


def test_letters_add_their_place_to_their_shape(monkeypatch: pytest.MonkeyPatch):
    set_recipe(monkeypatch)
    head = split_tiny()[1]
    for parameter in (*head.letters.parameters(), head.projector.place_codes):
        torch.nn.init.normal_(parameter)
    shapes, columns, rows, start = head.letters.parameters()
    reading = torch.zeros(1, 3, 4)
    reading[0, 0] = torch.tensor([12.0, 0.99, 0.01, 1.0])
    reading[0, 1] = torch.tensor([5.0, 1.0, 0.5, 0.0])
    with torch.no_grad():
        read = head.read(reading)[0]
    codes = head.projector.place_codes
    torch.testing.assert_close(read[0], shapes[12] + codes[7] + columns[7] + rows[0] + start)
    torch.testing.assert_close(read[1], shapes[5] + codes[39] + columns[7] + rows[4])
    torch.testing.assert_close(read[2], shapes[0])


def test_a_bundles_graph_reads_as_training_does(
    reader: PrintReader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    set_recipe(monkeypatch)
    trunk, head, tower = split_tiny(reader)
    for parameter in head.letters.parameters():
        torch.nn.init.normal_(parameter)
    seen = export_tower(tower, tmp_path / "seen.onnx")
    pictures = [sign("Milk"), sign("7", "up"), np.zeros((224, 224, 3), np.uint8)]
    pixels = pixel_values(pictures).numpy()
    report = attach_reader(seen.path, head, reader, tmp_path / "all.onnx", pixels)
    assert report.error is not None
    assert report.error <= report.limit
    tokens = run_graph(open_session(report.path), pixels)
    assert tokens.shape == (3, recipe.IMAGE_TOKENS, recipe.LLM_WIDTH)
    with torch.no_grad():
        expected = head(torch.from_numpy(trunk(pictures)).float())
    # The trunk works in bfloat16 where the processor can, and is kept in float16.
    np.testing.assert_allclose(tokens, expected.numpy(), atol=0.05, rtol=0.05)
    assert head.letters.shapes.shape == (1 + len(CHARACTERS), recipe.LLM_WIDTH)


def test_a_graph_with_operators_of_onnx_runtime_is_joined_too(
    reader: PrintReader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    set_recipe(monkeypatch)
    _, head, tower = split_tiny(reader)
    pixels = pixel_values([sign("Milk")]).numpy()
    seen = export_tower(tower, tmp_path / "seen.onnx")
    weight_only(seen.path, tmp_path / "eight_bits.onnx", pixels, [])
    assert {entry.domain for entry in onnx.load(tmp_path / "eight_bits.onnx").opset_import} > {""}
    report = attach_reader(
        tmp_path / "eight_bits.onnx", head, reader, tmp_path / "all.onnx", pixels
    )
    assert report.error is not None
    assert report.error <= report.limit


def test_a_missing_or_other_package_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TuningError, match="rapidocr"):
        find_reader_models()
    (tmp_path / weights._RECOGNIZER).write_bytes(b"no graph")
    with pytest.raises(TuningError, match=weights._RECOGNIZER):
        load_recognizer(tmp_path)


def test_another_alphabet_is_told(tmp_path: Path):
    model = onnx.load(str(find_reader_models() / weights._RECOGNIZER))
    entry = next(prop for prop in model.metadata_props if prop.key == "character")
    entry.value = "\n".join("abc")
    onnx.save(model, str(tmp_path / weights._RECOGNIZER))
    with pytest.raises(TuningError, match="classes"):
        load_recognizer(tmp_path)


def test_weights_are_kept_in_16_bits():
    model, _ = load_recognizer(find_reader_models())
    arrays = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    assert all(array.nbytes <= 1024 for array in arrays if array.dtype == np.float32)
