"""What the log holds at its most talkative: nothing that a user asked, showed or was told."""

import io
import logging
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image, PngImagePlugin

import edge_et
from edge_et.image import load_image
from edge_et.llm import native_log

ASKED, SHOWN, GIVEN = "xyloquestion", "xylopicture", "xyloextraction"


def picture(kind: str) -> bytes:
    """Return a picture whose metadata tell something."""
    image = Image.new("RGB", (60, 40), "red")
    exif = image.getexif()
    exif[ExifTags.Base.ImageDescription] = SHOWN
    exif[ExifTags.Base.Orientation] = 6
    options: dict[str, Any] = {"exif": exif}
    if kind == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_text("Comment", SHOWN)
        options["icc_profile"] = SHOWN.encode()
    file = io.BytesIO()
    image.save(file, kind, **options)
    assert SHOWN.encode() in file.getvalue()
    return file.getvalue()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """All loggers there are, from DEBUG on."""
    caplog.set_level(logging.DEBUG)
    return caplog


def messages(log: pytest.LogCaptureFixture, logger: str) -> list[str]:
    return [record.getMessage() for record in log.records if record.name.startswith(logger)]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_neither_question_picture_nor_answer_is_logged(
    tiny_bundle: Path, tmp_path: Path, log: pytest.LogCaptureFixture, kind: str
) -> None:
    shown = picture(kind)
    opened = Image.open(io.BytesIO(shown))
    log.clear()
    with edge_et.load(tiny_bundle, cache_dir=tmp_path) as pipe:
        answers = [pipe.answer(shown, f"{ASKED}?"), pipe.rethink(f"{ASKED}?", GIVEN)]
        list(pipe.stream(opened, f"{ASKED}?"))
        with pytest.raises(edge_et.errors.PromptTooLongError):
            pipe.answer(shown, f"{ASKED} " * 5000)
        with pytest.raises(edge_et.errors.ImageDecodeError):
            pipe.answer(SHOWN.encode(), f"{ASKED}?")
    texts = [text for a in answers for text in (a.text, a.extraction, a.reasoning)]
    logged = "\n".join(messages(log, ""))
    for text in (ASKED, SHOWN, GIVEN, *(text for text in texts if len(text) > 4)):
        assert text not in logged


def test_all_that_llama_cpp_says_is_logged(
    tiny_bundle: Path, log: pytest.LogCaptureFixture
) -> None:
    """Or the test above would see nothing of it."""
    edge_et.load(tiny_bundle).close()
    assert len(messages(log, native_log.__class__.__module__)) > 10


def test_pillow_tells_a_program_what_the_program_itself_reads(
    log: pytest.LogCaptureFixture,
) -> None:
    shown = picture("JPEG")
    load_image(shown)
    log.clear()
    Image.open(io.BytesIO(shown)).getexif()
    assert SHOWN in "\n".join(messages(log, "PIL"))


def test_llama_cpp_logs_in_no_thread_that_runs_signal_handlers(
    tiny_pair: Path, log: pytest.LogCaptureFixture
) -> None:
    edge_et.load(tiny_pair).close()  # opens the library itself
    log.clear()
    with edge_et.load(tiny_pair) as pipe:
        pipe.answer(picture("PNG"), f"{ASKED}?")
    records = [record for record in log.records if record.name.endswith("native_log")]
    assert len(records) > 10
    assert "MainThread" not in {record.threadName for record in records}
