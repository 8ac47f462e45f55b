"""Whether the packages are those that edge-et asks for."""

import pytest

from edge_et.checkup import software
from edge_et.checkup.software import check_versions, known_of_versions, unfit_packages


def install(monkeypatch: pytest.MonkeyPatch, *wanted: str, **versions: str) -> None:
    """Pretend that edge-et asks for some packages, and that some are installed."""
    found = {name.replace("_", "-"): number for name, number in versions.items()}
    monkeypatch.setattr(software, "requires", lambda _: list(wanted))
    monkeypatch.setattr(software, "_version", found.get)


@pytest.mark.parametrize(
    ("wanted", "found", "is_fit"),
    [
        ("ik-llama-cpp-python==0.1.5; extra == 'prebuilt'", "0.1.5", True),
        ("ik-llama-cpp-python==0.1.5; extra == 'prebuilt'", "0.1.6", False),
        ("ik-llama-cpp-python<0.4,>=0.3.36", "0.3.36", True),
        ("ik-llama-cpp-python<0.4,>=0.3.36", "0.3.9", False),
        ("ik-llama-cpp-python<0.4,>=0.3.36", "0.4", False),
        ("ik-llama-cpp-python>=2", "2.0.0rc1", True),
        ("ik-llama-cpp-python[more]>=2", "10.1", True),
        ("ik-llama-cpp-python", "0.1", True),
        ("another>=3", "0.1", True),
    ],
)
def test_packages_in_another_version_are_named(
    monkeypatch: pytest.MonkeyPatch, wanted: str, found: str, is_fit: bool
) -> None:
    install(monkeypatch, wanted, ik_llama_cpp_python=found)
    assert list(unfit_packages()) == ([] if is_fit else ["ik-llama-cpp-python"])
    finding = check_versions()
    assert finding.status == ("ok" if is_fit else "error")
    assert any("pip install" in advice for advice in finding.advice) == (not is_fit)


@pytest.mark.parametrize(("found", "is_told"), [("12.1.1", False), ("12.2", True), ("13.0", True)])
def test_what_a_version_does_otherwise_is_told(
    monkeypatch: pytest.MonkeyPatch, found: str, is_told: bool
) -> None:
    install(monkeypatch, pillow=found)
    told = known_of_versions()
    assert [finding.check for finding in told] == (["package.pillow"] if is_told else [])
    assert all(finding.status == "ok" for finding in told)


def test_onnxruntime_that_may_report_its_use_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, onnxruntime="1.32.0")
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")
    assert check_versions().status == "ok"
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    found = check_versions()
    assert found.status == "warning"
    assert "ORT_DISABLE_TELEMETRY" in found.advice[0]
