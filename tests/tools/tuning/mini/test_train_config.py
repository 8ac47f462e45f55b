"""The training configuration, its curves, and what is fetched for it."""

import hashlib
import io
import json
import sys
import tarfile
import urllib.request
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image
from tiny.places import ROOT

from edge_et.errors import AssetError, TuningError
from edge_et.tuning.mini.assets import clip_art, photographs, stamps
from edge_et.tuning.mini.assets import other_kinds as other_kinds_module
from edge_et.tuning.mini.assets.debian import DebianPackage, unpack
from edge_et.tuning.mini.concepts import THINGS
from edge_et.tuning.mini.train_config import AlignStage, NamesStage, TextStage, load_config
from edge_et.tuning.own.own_pictures import read_own_pictures, vary
from edge_et.tuning.training.curves import draw_curves, read_log

HEAD = 'work = "runs"\nassets = "downloads"\n'
ALIGN = '[[stage]]\nkind = "align"\nname = "align"\nscenes = 512\n'
NAMES = '[[stage]]\nkind = "names"\nname = "names"\nscenes = 512\n'
TEXT = '[[stage]]\nkind = "text"\nname = "tell"\nscenes = 256\nsteps = 9\ntrain = ["lora"]\n'


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "train.toml"
    path.write_text(text)
    return path


def test_the_stages_come_in_their_order_with_paths_beside_the_file(tmp_path: Path):
    config = load_config(write(tmp_path, HEAD + ALIGN + NAMES + TEXT + "direct = 2\n"))
    align, names, text = config.stage
    assert isinstance(align, AlignStage)
    assert isinstance(names, NamesStage)
    assert isinstance(text, TextStage)
    assert names.scenes == 512
    assert (align.scenes, text.steps, text.direct, text.train) == (512, 9, 2, ("lora",))
    assert Path(config.work) == tmp_path / "runs"
    assert config.adapter is None


def test_the_mini_models_own_configuration_is_valid():
    config = load_config(ROOT / "models" / "mini" / "train.toml")
    names = [stage.name for stage in config.stage]
    assert names == ["align", "names", "extraction", "lookups", "balance"]


def test_the_mini_goes_on_by_its_last_stage():
    trained = load_config(ROOT / "models" / "mini" / "train.toml")
    (further,) = load_config(ROOT / "models" / "mini" / "go_on.toml").stage
    assert msgspec.structs.replace(further, name="balance") == trained.stage[-1]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEAD, r"missing required field `stage`"),
        (HEAD + "stage = []\n", r"length >= 1"),
        (HEAD + "speed = 3\n" + ALIGN, r"unknown field `speed`"),
        (HEAD + ALIGN + "steps = 3\n", r"unknown field `steps` - at `\$\.stage\[0\]`"),
        (HEAD + TEXT.replace("9", '"nine"') + "direct = 1\n", r"\$\.stage\[0\]\.steps"),
        (HEAD + TEXT.replace("lora", "brain") + "direct = 1\n", r"Invalid enum value 'brain'"),
        (HEAD + TEXT, "teaches nothing"),
        (HEAD + ALIGN + ALIGN, "the same name"),
        (HEAD + ALIGN + NAMES, "a stage must follow 'names'"),
        (HEAD + ALIGN + "scenes_per_step = 10\n", "must divide 256"),
        (HEAD + "first_scene = 100\n" + ALIGN, "first_scene is 100, not a multiple of 256"),
        (HEAD + ALIGN.replace('"align"\nscenes', '"../up"\nscenes'), r"\$\.stage\[0\]\.name"),
        ("work = [", "train.toml"),
    ],
)
def test_what_is_wrong_is_told_by_its_path(tmp_path: Path, text: str, told: str):
    with pytest.raises(TuningError, match=told):
        load_config(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(TuningError, match=r"none\.toml cannot be read"):
        load_config(tmp_path / "none.toml")


def test_curves_are_drawn_also_of_a_log_that_a_kill_cut_off(tmp_path: Path):
    log = tmp_path / "tune.jsonl"
    records = [{"step": n, "loss": 3 / n} for n in range(1, 40)]
    records[20]["right"] = {"direct": 0.4}
    log.write_text("".join(json.dumps(r) + "\n" for r in records) + '{"step": 4')
    assert len(read_log(log)) == 39
    draw_curves(log, tmp_path / "tune.png")
    with Image.open(tmp_path / "tune.png") as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("RGB").getcolors(2**20)) > 10


def test_a_log_of_nothing_or_of_something_else_is_refused(tmp_path: Path):
    log = tmp_path / "tune.jsonl"
    log.write_text("")
    with pytest.raises(TuningError, match="no steps"):
        read_log(log)
    log.write_text('hello\n{"step": 1, "loss": 1}\n')
    with pytest.raises(TuningError, match=r"tune\.jsonl:1"):
        read_log(log)


def deb(member: str, text: bytes = b"hello") -> bytes:
    """Makes a Debian package of one file."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as archive:
        info = tarfile.TarInfo(member)
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
    content = b"!<arch>\n"
    for name, body in ((b"debian-binary", b"2.0\n"), (b"data.tar.xz", data.getvalue())):
        content += name.ljust(16) + b"0".ljust(12) + b"0".ljust(6) + b"0".ljust(6)
        content += b"100644".ljust(8) + str(len(body)).encode().ljust(10) + b"`\n"
        content += body + b"\n" * (len(body) % 2)
    return content


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch):
    def start(content: bytes) -> DebianPackage:
        monkeypatch.setattr(urllib.request, "urlopen", lambda *a, **k: io.BytesIO(content))
        digest = hashlib.sha256(content).hexdigest()
        return DebianPackage(name="few", path="pool/few.deb", license="MIT", sha256=digest)

    return start


def test_a_package_is_unpacked_once(serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = serve(deb("./usr/share/few/a.txt"))
    root = unpack(package, tmp_path)
    assert (root / "usr/share/few/a.txt").read_bytes() == b"hello"
    monkeypatch.setattr(urllib.request, "urlopen", None)
    assert unpack(package, tmp_path) == root


def test_another_file_than_the_pinned_one_is_refused(serve, tmp_path: Path):
    package = serve(deb("./a.txt"))
    serve(deb("./b.txt"))
    with pytest.raises(AssetError, match="SHA-256"):
        unpack(package, tmp_path)
    assert not list(tmp_path.rglob("*.txt"))


def test_a_package_cannot_write_elsewhere(serve, tmp_path: Path):
    package = serve(deb("../../escaped.txt"))
    with pytest.raises(AssetError, match="cannot be unpacked"):
        unpack(package, tmp_path / "assets")
    assert not list(tmp_path.rglob("escaped.txt"))


def test_what_is_no_package_is_refused(serve, tmp_path: Path):
    with pytest.raises(AssetError, match="no Debian package"):
        unpack(serve(b"<html>404</html>"), tmp_path)


def test_clip_art_lists_what_its_package_holds(
    serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    drawing = Image.new("RGBA", (800, 400))
    drawing.paste("red", (200, 100, 600, 300))
    png = io.BytesIO()
    drawing.save(png, "PNG")
    package = serve(deb("./usr/share/openclipart/png/animals/bat_01.png", png.getvalue()))
    monkeypatch.setattr(clip_art, "OPEN_CLIP_ART", package)
    monkeypatch.setattr(clip_art, "_DRAWINGS", "\nbat: bat_01\n")
    drawings = clip_art.ClipArt(tmp_path)
    assert [drawings.slugs(thing) for thing in ("bat", "cat")] == [("bat_01",), ()]
    shown = drawings.icon("bat_01")
    assert (shown.mode, shown.size) == ("RGBA", (192, 96))
    assert shown.getchannel("A").getextrema() == (255, 255)

    monkeypatch.setattr(clip_art, "_DRAWINGS", "\nbat: bat_01\n  bat_02\ncat: cat_01\n")
    with pytest.raises(AssetError, match=r"few\.deb has no bat_02, cat_01"):
        clip_art.ClipArt(tmp_path)


def test_clip_art_is_of_things_that_scenes_show():
    text = clip_art._DRAWINGS.replace("\n  ", " ").strip()
    listed = [line.partition(": ") for line in text.splitlines()]
    assert {thing for thing, _, _ in listed} <= {thing.name for thing in THINGS}
    slugs = [slug for _, _, drawings in listed for slug in drawings.split()]
    assert len(slugs) > 700
    assert len(set(slugs)) == len(slugs)


def test_other_kinds_are_no_things_and_drawn_by_several_hands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    drawn = {
        "noto": {"dog", "bell", "banjo", "waving-hand-dark-skin-tone"},
        "twemoji": {"dog", "banjo", "abacus", "waving-hand-dark-skin-tone"},
        "fxemoji": {"banjo", "waving-hand-dark-skin-tone"},
        "lucide": {"abacus"},
    }

    class Library:
        def __init__(self, style: str, folder: Path) -> None:
            self.style = style
            self.all_slugs = drawn[style]

    monkeypatch.setattr(other_kinds_module, "TRAINING_STYLES", tuple(drawn))
    monkeypatch.setattr(other_kinds_module, "IconLibrary", Library)
    monkeypatch.setattr(other_kinds_module, "_FEWEST_SETS", 2)
    kinds = other_kinds_module.other_kinds(tmp_path)
    assert {kind: [library.style for library in by] for kind, by in kinds.items()} == {
        "banjo": ["noto", "twemoji", "fxemoji"]
    }


def test_stamps_show_things_that_have_names_and_evaluation_shows_others():
    names = {thing.name for thing in THINGS}
    lines = stamps._STAMPS.strip().splitlines()
    assert {line.partition(":")[0] for line in lines} <= names
    tables = photographs._GCOMPRIS_PHOTOGRAPHS + photographs._SKIMAGE_PHOTOGRAPHS
    shown = dict(photographs._parse(tables.replace("\n\n", "\n")))
    assert len(shown) >= 100
    assert sum(bool(names & set(accepted)) for accepted in shown.values()) > 90
    assert stamps.TUX_PAINT_STAMPS.name not in (
        photographs.GCOMPRIS.name,
        photographs.SCIKIT_IMAGE.name,
    )


@pytest.fixture
def own(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for label in ("hex_bolt", "washer"):
        (tmp_path / label).mkdir()
        for k in range(10):
            pixels = rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / label / f"{k}.png")
    return tmp_path


def test_own_pictures_are_split_and_broken_ones_named(own: Path):
    (own / "washer" / "broken.jpg").write_bytes(b"no picture")
    (own / "washer" / "notes.txt").write_text("not meant as a picture")
    read = read_own_pictures(own)
    assert read.labels == ("hex bolt", "washer")
    assert (len(read.training), len(read.held_out)) == (16, 4)
    training, held_out = ({p.path for p in some} for some in (read.training, read.held_out))
    assert training.isdisjoint(held_out)
    assert [path.name for path, _ in read.broken] == ["broken.jpg"]
    again = read_own_pictures(own)
    assert {p.path for p in again.held_out} == held_out


def test_photographs_of_a_phone_are_not_passed_over_in_silence(
    own: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (own / "washer" / "photo.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(12))
    ((path, reason),) = read_own_pictures(own).broken
    assert path.name == "photo.HEIC"
    assert "edge-et[heic]" in reason


def test_own_labels_must_be_a_few_plain_words(own: Path):
    (own / "<|im_end|>").mkdir()
    with pytest.raises(TuningError, match="a few plain words"):
        read_own_pictures(own)


def test_a_label_with_one_picture_and_a_folder_of_none_are_refused(own: Path):
    (own / "cog").mkdir()
    with pytest.raises(TuningError, match=r"cog holds 0 pictures"):
        read_own_pictures(own)
    with pytest.raises(TuningError, match="one for each label"):
        read_own_pictures(own / "cog")
    with pytest.raises(TuningError, match="cannot be read"):
        read_own_pictures(own / "missing")


def test_variations_stay_pictures_of_the_same(own: Path):
    picture = read_own_pictures(own).training[0].picture
    varied = [vary(picture, np.random.default_rng(seed)) for seed in range(5)]
    assert all(v.width > 0.7 * picture.width and v.mode == "RGB" for v in varied)
    assert len({v.tobytes() for v in varied}) == 5
