"""Reports of the benchmark, from documents made by hand: tables, CSV, pictures, comparisons."""

import csv
import io
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from PIL import Image
from rich.console import Console

from edge_et.benchmarks.bounds import decode_bound, prefill_bound
from edge_et.benchmarks.compare_documents import compare, differences, print_comparison, verdict
from edge_et.benchmarks.document import (
    PHASES,
    Bounds,
    BundleInfo,
    Configuration,
    Document,
    Machine,
    Model,
    OpenedModel,
    Sample,
    Tokens,
    Work,
)
from edge_et.benchmarks.figures import figures, phase_medians, rates
from edge_et.benchmarks.plot import write_plot
from edge_et.benchmarks.report import print_report, write_csv
from edge_et.cli.bench import bench
from edge_et.errors import BenchError

MODEL = Model(
    role="perceiver",
    weight_bytes=1_000_000,
    shape={
        "layers": 2,
        "width": 32,
        "heads": 4,
        "kv_heads": 2,
        "key_width": 8,
        "value_width": 8,
        "feed_forward": 64,
    },
)
BOUNDS = Bounds(memory_bytes_per_s=1e9, gemm_flops_per_s=1e9)


def sample(scale: float, phases: tuple[str, ...] = PHASES[2:], **changes: Any) -> Sample:
    """A sample whose phases take 0.1 s each, times a factor."""
    content = {
        "phases_s": dict.fromkeys(phases, 0.1 * scale),
        "first_extraction_s": 0.3 * scale,
        "first_thinking_s": 0.5 * scale,
        "total_s": 0.1 * scale * len(phases),
        "tokens": Tokens(
            image=16,
            prompt_evaluated=40,
            prompt_reused=0,
            extraction=11,
            handover_evaluated=20,
            handover_reused=50,
            thinking=6,
            answer=3,
        ),
        "energy_j": None,
        "temperature_c": None,
    }
    return Sample(**(content | changes))


def configuration(*scales: float, name: str = "edge-et", **changes: Any) -> Configuration:
    content = {
        "name": name,
        "note": "what it does",
        "absent": None,
        "cold": tuple(sample(scale, PHASES) for scale in scales),
        "first": tuple(map(sample, scales)),
        "second": tuple(map(sample, scales)),
        "peak_memory_bytes": (300_000_000,) * (len(scales) + 1),
    }
    return Configuration(**(content | changes))


ABSENT = Configuration(name="theirs", note="a rival", absent="torch is not installed")


def document(*configurations: Configuration, **changes: Any) -> Document:
    content = {
        "created": "2026-01-01T00:00:00+00:00",
        "commit": "abc",
        "versions": {"python": "3.11.7"},
        "machine": Machine(
            cpu="[a] CPU", cores=2, logical_cpus=2, memory_bytes=2**33, system="", load_average=0.0
        ),
        "bundle": BundleInfo(name="tiny", version="1", sha256="0" * 64, models=(MODEL,)),
        "threads": 2,
        "arguments": (),
        "work": Work(
            picture="a.png",
            picture_sha256="",
            questions=("What?", "Why?"),
            extraction_tokens=11,
            thinking_tokens=6,
            answer_tokens=3,
        ),
        "bounds": BOUNDS,
        "configurations": configurations,
    }
    return Document(**(content | changes))


def printed(print_to: Any, *arguments: Any) -> str:
    console = Console(file=io.StringIO(), width=160)
    print_to(*arguments, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_medians_are_the_middle_samples():
    assert phase_medians(tuple(map(sample, (1.0, 5.0, 2.0))))["vision"] == pytest.approx(0.2)
    assert list(phase_medians((sample(1.0),))) == list(PHASES[2:])
    assert phase_medians(()) == {}


def test_rates_count_runs_of_the_model_and_stand_beside_their_bounds():
    found = configuration(1.0, 1.0, 1.0)
    prefill, extract, think = rates(document(found), found)
    assert prefill.tokens_per_s == pytest.approx(40 / 0.1)
    assert extract.tokens_per_s == pytest.approx(10 / 0.1)
    assert think.tokens_per_s == pytest.approx(5 / 0.1)
    assert prefill.bound_per_s == prefill_bound(BOUNDS, MODEL, 0, 40)
    kv_bytes = 2 * 2 * (8 + 8) * 2  # layers, heads, keys and values, bytes of F16
    assert extract.bound_per_s == pytest.approx(1e9 / (1e6 + kv_bytes * (40 + 5.5)))
    assert think.bound_per_s == decode_bound(BOUNDS, MODEL, 70 + 3)


def test_a_prefill_behind_a_prefix_costs_its_own_part_alone():
    whole = 60 / prefill_bound(BOUNDS, MODEL, 0, 60)
    parts = 40 / prefill_bound(BOUNDS, MODEL, 0, 40) + 20 / prefill_bound(BOUNDS, MODEL, 40, 20)
    assert parts == pytest.approx(whole)


def test_the_tables_hold_what_was_measured_and_what_was_not():
    text = printed(print_report, document(configuration(1.0, 2.0, 3.0), ABSENT))
    for phase in PHASES:
        assert phase in text
    assert "200.0" in text
    assert "theirs: a rival. Absent: torch is not installed" in text
    assert "[a] CPU" in text
    assert "WARNING" not in text


def test_restarts_have_a_table_where_there_are_any():
    title = "a picture that an earlier one kept on disk"
    rival = configuration(2.0, name="a rival")
    kept = configuration(1.0, restart=(sample(0.5, PHASES),))
    for measured, told in (((kept, rival), True), ((rival,), False)):
        text = " ".join(printed(print_report, document(*measured)).split())
        assert (title in text) == told


def test_a_rival_that_cannot_tell_the_tower_from_the_prefill_has_no_rate_of_it(tmp_path: Path):
    warm = tuple(phase for phase in PHASES[2:] if phase not in ("image", "vision"))
    rival = configuration(
        name="a rival",
        cold=(sample(1.0, ("load", *warm)),),
        first=(sample(1.0, warm),),
        second=(sample(1.0, warm),),
        peak_memory_bytes=(1, 2),
    )
    both = document(configuration(1.0), rival)
    assert [rate.work for rate in rates(both, rival)] == ["extract", "think"]
    rows = printed(print_report, both).splitlines()
    cells = [[cell.strip() for cell in row.split("│")[1:-1]] for row in rows if "│" in row]
    assert ["import", "100.0", ""] in cells
    assert ["load", "100.0", "100.0"] in cells
    assert [found[2] == "" for found in cells if found[0] == "vision"] == [True] * 3
    write_plot(both, tmp_path / "phases.svg")
    assert "a rival" in (tmp_path / "phases.svg").read_text()
    io_text = io.StringIO()
    write_csv(both, io_text)
    assert "a rival,cold,phase load,s,0,0.1" in io_text.getvalue()


def test_a_busy_machine_is_told():
    busy = msgspec.structs.replace(document().machine, load_average=1.5)
    text = printed(print_report, document(configuration(1.0), machine=busy))
    assert "WARNING: 1.50 processes were running" in text


def test_busy_samples_have_tables_and_their_ratio():
    kept = configuration(
        1.0,
        1.0,
        busy_first=(sample(3.0), sample(2.0)),
        busy_second=(sample(4.0), sample(4.0)),
        busy_ratios={"first": (3.0, 2.0), "second": (4.0, 4.0)},
    )
    found = document(kept, ABSENT, busy=2)
    text = " ".join(printed(print_report, found).replace("│", " ").split())
    assert "beside 2 processes that compute" in text
    assert "busy to idle 2.50" in text
    assert "busy to idle 4.00" in text
    measured = {(one.temperature, one.measure): one.values for one in figures(found)}
    assert measured["busy first", "busy to idle"] == (3.0, 2.0)
    assert measured["busy second", "answer"] == pytest.approx((2.8, 2.8))
    assert "busy" not in printed(print_report, document(configuration(1.0))).lower()


def test_rates_are_told_behind_their_positions_with_their_share_of_the_bound():
    found = configuration(1.0)
    text = " ".join(printed(print_report, document(found)).replace("│", " ").split())
    prefill, extract, think = rates(document(found), found)
    assert (prefill.behind, extract.behind, think.behind) == (20, 45.5, 73)
    assert f"think, behind 73 50.0 of {think.bound_per_s:.0f}, {think.share:.0%}" in text


OPENED = OpenedModel(
    role="perceiver",
    engine="prebuilt",
    engine_version="0.1.5",
    weights="merged Q8_0",
    file_bytes=150_000_000,
    token_bytes=2_000_000,
)


def test_memory_stands_beside_weights_and_kv_cache():
    bundle = msgspec.structs.replace(
        document().bundle, tower_bytes=60_000_000, kv_cache_bytes=40_000_000
    )
    runtime = configuration(1.0, models=(OPENED,))
    text = printed(
        print_report, document(runtime, configuration(1.0, name="a rival"), bundle=bundle)
    )
    rows = [[cell.strip() for cell in row.split("│")[1:-1]] for row in text.splitlines()]
    assert ["peak memory", "300 MB", "300 MB"] in rows
    assert ["weights + KV cache", "250 MB", ""] in rows
    assert ["peak less these", "50 MB", ""] in rows
    assert "perceiver in prebuilt 0.1.5, weights merged Q8_0" in text
    assert "weights + KV" not in printed(print_report, document(configuration(1.0)))


def test_the_bound_is_that_of_the_weights_that_were_opened():
    found = configuration(1.0, models=(OPENED,))
    *_, extract, think = rates(document(found), found)
    kv_bytes = 2 * 2 * (8 + 8) * 2
    assert extract.bound_per_s == pytest.approx(1e9 / (2e6 + kv_bytes * 45.5))
    assert think.bound_per_s == pytest.approx(1e9 / (2e6 + kv_bytes * 73))


def test_energy_is_shown_where_it_was_read():
    warm = tuple(sample(1.0, energy_j=energy) for energy in (3.0, 9.0, 4.0))
    measured = document(configuration(1.0, first=warm))
    assert "4.0 J" in printed(print_report, measured)
    assert any(figure.measure == "energy" for figure in figures(measured))
    assert " J" not in printed(print_report, document(configuration(1.0)))


def test_csv_holds_every_sample():
    found = document(configuration(1.0, 2.0), ABSENT)
    file = io.StringIO()
    write_csv(found, file)
    rows = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert len(rows) == sum(len(figure.values) for figure in figures(found))
    assert rows[0] == {
        "configuration": "edge-et",
        "temperature": "cold",
        "measure": "phase import",
        "unit": "s",
        "sample": "0",
        "value": "0.1",
    }


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_equal_documents_give_equal_pictures(tmp_path: Path, suffix: str):
    found = document(configuration(1.0, 2.0), configuration(3.0, name="reuse off"), ABSENT)
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for path in paths:
        write_plot(found, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    if suffix == ".png":
        assert Image.open(paths[0]).width > 500
    else:
        assert all(phase in paths[0].read_text() for phase in PHASES)


def test_a_plot_needs_a_known_suffix(tmp_path: Path):
    with pytest.raises(BenchError, match=r"\.png or \.svg"):
        write_plot(document(configuration(1.0)), tmp_path / "plot.pdf")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((1.0, 1.0, 1.0), (1.02, 1.02, 1.02), "same"),  # under 3 %
        ((1.0, 1.0, 1.0), (1.04, 1.04, 1.04), "more"),
        ((1.0, 1.0, 1.0), (0.96, 0.96, 0.96), "less"),
        ((0.9, 1.0, 1.1), (1.1, 1.15, 1.2), "same"),  # apart by less than the spread of 0.2
        ((0.9, 1.0, 1.1), (1.1, 1.3, 1.2), "same"),  # by as much as it
        ((0.9, 1.0, 1.1), (1.2, 1.21, 1.22), "more"),
        ((1.0, 1.0, 1.0), (1.0, 1.5, 2.0), "same"),  # the later one is the noisy one
        ((1.0, 1.0), (2.0, 2.0, 2.0), "unknown"),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), "same"),
        ((0.0, 0.0, 0.0), (0.1, 0.1, 0.1), "more"),
    ],
)
def test_the_rule_of_comparisons(
    before: tuple[float, ...], after: tuple[float, ...], expected: str
):
    assert verdict(before, after) == expected


def test_a_comparison_tells_what_changed_and_nothing_else():
    before = document(configuration(1.0, 1.0, 1.0))
    faster = tuple(
        sample(1.0, phases_s=dict.fromkeys(PHASES[2:], 0.1) | {"handover": 0.05}) for _ in range(3)
    )
    after = document(configuration(1.0, 1.0, 1.0, first=faster))
    changed = [change for change in compare(before, after) if change.verdict != "same"]
    assert [(c.before.temperature, c.before.measure, c.verdict) for c in changed] == [
        ("first", "phase handover", "less")
    ]
    assert changed[0].ratio == pytest.approx(0.5)
    text = printed(print_comparison, before, after)
    assert "phase handover" in text
    assert "1 figures changed" in text
    assert "phase vision" not in text


def test_a_comparison_leaves_with_status_0_whatever_changed(tmp_path: Path):
    paths = [tmp_path / name for name in ("before.json", "after.json")]
    for path, scale in zip(paths, (1.0, 2.0), strict=True):
        path.write_bytes(msgspec.json.encode(document(configuration(scale, scale, scale))))
    done = CliRunner().invoke(bench, ["--compare", *map(str, paths)])
    assert done.exit_code == 0
    assert "32 figures changed, 1 did not beyond the noise" in done.stdout


def test_a_comparison_of_other_work_says_so():
    before = document(configuration(1.0), configuration(1.0, name="old"))
    work = msgspec.structs.replace(before.work, picture="elsewhere.png")
    after = document(configuration(1.0), configuration(1.0, name="new"), threads=4, work=work)
    assert list(differences(before, after)) == [
        "threads: 2 before, 4 after",
        "new: measured after alone",
        "old: measured before alone",
    ]
    text = printed(print_comparison, before, after)
    assert "have fewer than 3 samples" in text
