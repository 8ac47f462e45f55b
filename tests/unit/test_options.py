from fractions import Fraction
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest

from edge_et.errors import OptionError
from edge_et.keywords import OptionValues
from edge_et.options import (
    AnswerOptions,
    LoadOptions,
    check_at_least,
    parse_load_options,
    parse_options,
)


def test_the_keyword_arguments_are_the_options() -> None:
    assert get_type_hints(OptionValues).keys() == set(AnswerOptions.__struct_fields__)


def test_none_is_the_default_of_every_option() -> None:
    assert parse_options({}) == AnswerOptions()
    assert parse_options({"seed": None, "top_p": None}) == AnswerOptions()


def test_values_in_range_are_taken() -> None:
    options = parse_options({"max_thinking_tokens": 0, "temperature": 1, "top_p": 1.0, "seed": 0})
    assert (options.max_thinking_tokens, options.temperature, options.top_p) == (0, 1, 1.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_extraction_tokens", 0),
        ("max_extraction_tokens", 2.5),
        ("look_again", -1),
        ("look_again", 9),
        ("look_again", True),
        ("max_thinking_tokens", -1),
        ("max_answer_tokens", True),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", "hot"),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("seed", -1),
        ("max_tokens", 5),
        ("hint", ""),
        ("hint", 5),
        ("thinking", 1),
        ("thinking", "yes"),
        ("deadline_s", 0),
        ("deadline_s", -1.0),
        ("deadline_s", float("inf")),
        ("deadline_s", float("nan")),
        ("max_tiles", 0),
        ("max_tiles", 1.5),
        ("pooling", 3),
        ("pooling", True),
        ("pooling", 2.0),
    ],
)
def test_values_out_of_range_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(OptionError) as caught:
        parse_options({name: value})
    assert (caught.value.name, caught.value.expected != "") == (name, True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "plain"),
    [
        ("max_tiles", np.int64(3), 3),
        ("max_thinking_tokens", np.uint8(0), 0),
        ("temperature", np.float32(0.5), 0.5),
        ("temperature", np.int32(1), 1.0),
        ("top_p", np.float64(0.25), 0.25),
        ("deadline_s", Fraction(1, 2), 0.5),
        ("thinking", np.False_, False),
        ("hint", np.str_("the ball"), "the ball"),
    ],
)
def test_numbers_of_other_libraries_become_pythons(name: str, value: object, plain: object) -> None:
    taken = getattr(parse_options({name: value}), name)
    assert (taken, type(taken)) == (plain, type(plain))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("max_tiles", np.True_, "a whole number from 1 to 16777216"),
        ("max_tiles", np.float64(2.5), "a whole number from 1 to 16777216"),
        ("max_tiles", "3", "a whole number from 1 to 16777216"),
        ("max_answer_tokens", 2**31, "a whole number from 1 to 16777216"),
        ("temperature", True, "a number from 0 to 10"),
        ("temperature", "0.5", "a number from 0 to 10"),
        ("temperature", 10**400, "a number from 0 to 10"),
        ("temperature", Fraction(10**400), "a number from 0 to 10"),
        ("top_p", np.float32("nan"), "a number over 0 and up to 1"),
        ("deadline_s", float("inf"), "a finite number over 0"),
        ("seed", 2**63, "a whole number from 0 to 9223372036854775807"),
        pytest.param(
            "seed", 10**5000, "a whole number from 0 to 9223372036854775807", id="5001 digits"
        ),
        ("thinking", np.int64(1), "True or False"),
        ("hint", np.zeros((3, 3)), "a text that is not empty"),
        (
            "history",
            [{"role": "you", "content": "x"}],
            "a list of up to 1000 of {'role': 'system', 'user' or 'assistant', 'content': a text}",
        ),
    ],
)
def test_errors_say_in_pythons_terms_what_is_expected(
    name: str, value: object, expected: str
) -> None:
    with pytest.raises(OptionError) as caught:
        parse_options({name: value})
    assert caught.value.expected == expected
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", LoadOptions.__struct_fields__)
def test_numbers_that_no_machine_has_are_refused(name: str) -> None:
    for value in (2**63, -(2**63) - 1, 10**400):
        with pytest.raises(OptionError, match=name):
            parse_load_options({name: value})


def test_options_of_a_bundle_are_checked_by_name(tmp_path: Path) -> None:
    assert parse_load_options({"threads": None, "cache_dir": tmp_path}) == LoadOptions(
        cache_dir=str(tmp_path)
    )
    for name, value in (
        ("threads", 0),
        ("threads", True),
        ("threads", 513),
        ("max_pixels", 0),
        ("image_cache_bytes", -1),
        ("kv_type", "q4_0"),
        ("max_kv_bytes", 0),
        ("use_profile", 1),
        ("cache_dir", 3),
        ("cache_dir", b"folder"),
        ("cache_dir", "a\0b"),
        ("cache_bytes", None),
        ("unknown", 1),
    ):
        with pytest.raises(OptionError, match=name):
            parse_load_options({name: value})


def test_whole_numbers() -> None:
    check_at_least("threads", 1, 1)
    for value in (0, True, 1.0, np.float32(2)):
        with pytest.raises(OptionError, match="threads"):
            check_at_least("threads", value, 1)  # type: ignore[arg-type]


def test_choices_are_listed() -> None:
    with pytest.raises(OptionError, match="one of f16, f32, q8_0"):
        parse_load_options({"kv_type": "F16"})
    with pytest.raises(OptionError, match="one of 1, 2"):
        parse_options({"pooling": 3})
