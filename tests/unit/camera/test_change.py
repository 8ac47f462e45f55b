from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edge_et.camera import BackgroundChange, BlockChange, ChangeDetector, Frame
from edge_et.errors import OptionError

HEIGHT, WIDTH = 720, 1280
FIGURE = (slice(300, 370), slice(600, 630))  # 30 x 70 pixels


def scene() -> NDArray[np.float32]:
    """Return a room: soft shapes of 40 to 200."""
    coarse = np.random.default_rng(1).integers(40, 200, (18, 32, 3)).astype(np.uint8)
    image = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    return np.asarray(image).astype(np.float32)


DAY = scene()
NIGHT = DAY * 0.06 + 3  # 5 to 15
NOISE = np.random.default_rng(2).normal(size=(4, HEIGHT, WIDTH, 3)).astype(np.float32)


def frame(
    picture: NDArray[np.float32], number: int = 0, *, noise: float = 0.0, time_s: float = 0.0
) -> Frame:
    """Return a frame with the noise of a sensor, another one for each number up to 4."""
    noisy = picture
    if noise:
        noisy = picture + noise * NOISE[number % 4]
    return Frame(
        number=number,
        time=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=time_s),
        picture=np.clip(np.rint(noisy), 0, 255).astype(np.uint8),
    )


def with_figure(picture: NDArray[np.float32], contrast: float) -> NDArray[np.float32]:
    changed = picture.copy()
    changed[FIGURE] += contrast
    return changed


def asked(detector: ChangeDetector, *frames: Frame) -> list[bool]:
    return [detector.has_changed(each) for each in frames]


def test_the_first_frame_and_another_size_have_changed() -> None:
    small = frame(DAY[:360, :640])
    assert asked(BlockChange(), frame(DAY), frame(DAY), small, small) == [True, False, True, False]


@pytest.mark.parametrize("contrast", [60, 10, -10])
def test_a_small_figure_is_seen_by_day(contrast: float) -> None:
    changed = with_figure(DAY, contrast)
    assert asked(BlockChange(), frame(DAY, noise=3), frame(changed, 1, noise=3)) == [True, True]


@pytest.mark.parametrize("contrast", [25, 12])
def test_a_small_figure_is_seen_in_a_dark_and_noisy_night(contrast: float) -> None:
    changed = with_figure(NIGHT, contrast)
    assert asked(BlockChange(), frame(NIGHT, noise=9), frame(changed, 1, noise=9)) == [True, True]


@pytest.mark.parametrize(("picture", "noise"), [(DAY, 6), (NIGHT, 12)], ids=["day", "night"])
def test_the_noise_of_a_sensor_is_no_change(picture: NDArray[np.float32], noise: float) -> None:
    frames = [frame(picture, number, noise=noise, time_s=number) for number in range(8)]
    assert asked(BlockChange(), *frames) == [True] + [False] * 7


def test_noise_that_is_the_same_in_neighbouring_pixels_is_no_change() -> None:
    coarse = np.random.default_rng(3).normal(size=(6, HEIGHT // 8, WIDTH // 8, 3))
    frames = [frame(NIGHT + 3 * each.repeat(8, 0).repeat(8, 1)) for each in coarse]
    assert asked(BlockChange(), *frames) == [True] + [False] * 5


@pytest.mark.parametrize("step_s", [0.2, 5.0])
def test_light_that_fades_is_no_change(step_s: float) -> None:
    """Clouds: it becomes darker by 40 %, in 2 minutes, and more on one side than on the other."""
    side = np.linspace(0, 1, WIDTH, dtype=np.float32)[None, :, None]
    detector = BlockChange()
    steps = round(120 / step_s)
    seen = []
    for number in range(0, steps + 1, max(1, steps // 24)):
        part = number / steps
        faded = DAY * (1 - 0.4 * part) - 10 * part * side
        seen.append(detector.has_changed(frame(faded, number, noise=3, time_s=number * step_s)))
    assert seen == [True] + [False] * (len(seen) - 1)


def test_a_lamp_that_is_dimmed_at_once_hides_no_figure() -> None:
    dimmed = DAY * 0.7
    assert asked(BlockChange(), frame(DAY), frame(dimmed)) == [True, False]
    assert asked(BlockChange(), frame(DAY), frame(with_figure(dimmed, 20))) == [True, True]


def test_who_stays_is_asked_about_once_and_again_when_gone() -> None:
    changed = with_figure(DAY, 30)
    frames = [frame(DAY), frame(changed), frame(changed), frame(changed), frame(DAY), frame(DAY)]
    assert asked(BlockChange(), *frames) == [True, True, False, False, True, False]


def test_a_figure_of_the_same_brightness_is_seen_by_its_colour() -> None:
    changed = DAY.copy()
    changed[FIGURE] += (20, -20, 0)
    assert asked(BlockChange(), frame(DAY), frame(changed)) == [True, True]


AROUND = [(0.4, 0.3), (0.6, 0.3), (0.6, 0.6), (0.4, 0.6)]
ELSEWHERE = [(0.0, 0.0), (0.3, 0.0), (0.3, 0.3)]


def array_around() -> NDArray[np.bool_]:
    mask = np.zeros((180, 320), bool)
    mask[54:108, 128:192] = True
    return mask


@pytest.mark.parametrize("detector", [BlockChange, BackgroundChange])
@pytest.mark.parametrize(
    ("ignored", "is_seen"),
    [([AROUND], False), (array_around(), False), ([ELSEWHERE], True), (~array_around(), True)],
    ids=["polygon", "array", "polygon elsewhere", "array elsewhere"],
)
def test_what_happens_in_ignored_regions_does_not_count(
    detector: type[BlockChange | BackgroundChange], ignored: object, is_seen: bool
) -> None:
    frames = [frame(DAY, number, noise=2) for number in range(12)]
    frames.append(frame(with_figure(DAY, 60), 1, noise=2))
    seen = asked(detector(ignored=ignored), *frames)  # type: ignore[arg-type]
    assert seen == [True] + [False] * 11 + [is_seen]


def test_where_all_is_ignored_nothing_changes() -> None:
    everywhere = np.ones((2, 2), bool)
    detector = BlockChange(ignored=everywhere)
    assert asked(detector, frame(DAY), frame(NIGHT), frame(DAY)) == [True, False, False]


def test_opencv_sees_a_small_figure_and_no_noise() -> None:
    for picture, noise, contrast in ((DAY, 3, 30), (NIGHT, 9, 25)):
        frames = [frame(picture, number, noise=noise) for number in range(12)]
        frames.append(frame(with_figure(picture, contrast), 1, noise=noise))
        assert asked(BackgroundChange(), *frames) == [True] + [False] * 11 + [True]


def test_pictures_of_a_few_pixels_are_compared() -> None:
    one = np.full((1, 1, 3), 90, np.float32)
    few = np.full((5, 7, 3), 90, np.float32)
    assert asked(BlockChange(), frame(few), frame(few), frame(few + 60)) == [True, False, False]
    assert asked(BlockChange(), frame(one), frame(one)) == [True, False]


@pytest.mark.parametrize(
    "ignored",
    [
        [[(0, 0), (1, 1)]],
        [[(0, 0), (1, 0), (0, 2)]],
        [[(0, 0), (1, 0), (0, float("nan"))]],
        [(0, 0, 1, 1)],
        [3],
        np.zeros((2, 2, 3)),
        np.zeros((0, 4)),
        np.array([["a"]]),
        5,
        None,
    ],
)
def test_regions_that_are_none_are_refused(ignored: object) -> None:
    for detector in (BlockChange, BackgroundChange):
        with pytest.raises(OptionError, match="ignored="):
            detector(ignored=ignored)  # type: ignore[arg-type]


@pytest.mark.parametrize("contrast", [0, -1, 256, float("nan"), "6"])
def test_a_contrast_out_of_its_range_is_refused(contrast: object) -> None:
    with pytest.raises(OptionError, match="contrast="):
        BlockChange(contrast=contrast)  # type: ignore[arg-type]


@pytest.mark.parametrize("history", [0, 1.5, True, 2**31])
def test_a_history_out_of_its_range_is_refused(history: object) -> None:
    with pytest.raises(OptionError, match="history="):
        BackgroundChange(history=history)  # type: ignore[arg-type]
