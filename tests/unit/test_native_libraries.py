import logging
import os
import sys
import types

import pytest

from edge_et.native_libraries import TELEMETRY, import_library


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """An onnxruntime that the program has imported before."""
    module = types.ModuleType("onnxruntime")
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    monkeypatch.delenv(TELEMETRY, raising=False)
    return module


def test_an_onnxruntime_that_was_imported_before_is_told_once(
    imported: types.ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    assert import_library("onnxruntime") is imported
    assert import_library("onnxruntime") is imported
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{TELEMETRY}=1" in record.getMessage()
    assert os.environ[TELEMETRY] == "1"  # for the processes that this one starts


def test_who_wants_telemetry_has_it(
    imported: types.ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(TELEMETRY, "0")
    assert import_library("onnxruntime") is imported
    assert os.environ[TELEMETRY] == "0"
    assert caplog.records == []
