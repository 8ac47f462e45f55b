"""The tables of the documentation are made from the documents that lie beside the benchmarks."""

from pathlib import Path

import pytest
from tiny.places import ROOT

from edge_et.benchmarks.markdown import RESULTS, fill_marks
from edge_et.errors import BenchError


@pytest.mark.parametrize("page", ["README.md", "docs/benchmarks.md"])
def test_the_tables_are_those_of_the_documents(page: str):
    text = (ROOT / page).read_text()
    assert fill_marks(ROOT / page, RESULTS) == text
    assert "llama-server" in text.split("<!-- bench:")[1]


def test_a_mark_without_an_end_and_a_missing_document_are_told(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("<!-- bench: a.json -->\nno end")
    with pytest.raises(BenchError, match="has no <!-- end -->"):
        fill_marks(page, tmp_path)
    page.write_text("<!-- bench: a.json -->\n<!-- end -->\n")
    with pytest.raises(BenchError, match=r"a\.json cannot be read"):
        fill_marks(page, tmp_path)
