"""docs/api.md is what the code says."""

import subprocess
import sys

from tiny.places import ROOT

import edge_et


def test_the_page_is_made_from_the_code():
    command = [sys.executable, ROOT / "scripts" / "make_api_docs.py"]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert (ROOT / "docs" / "api.md").read_text() == made, (
        "write it anew: python scripts/make_api_docs.py > docs/api.md"
    )


def test_every_public_name_and_error_is_on_it():
    page = (ROOT / "docs" / "api.md").read_text()
    for name in edge_et.__all__:
        assert name in page, name
    for name, kind in vars(edge_et.errors).items():
        if isinstance(kind, type) and issubclass(kind, edge_et.EdgeETError):
            assert name in page, name
