"""What the libraries of the tools do beside their work. Run it when the version of one moves."""

from pathlib import Path

import pytest
from tiny.places import ROOT
from tiny.watched import Watched

# All that a bundle goes through on its way, and every library that a tool imports.
WORK = """
import importlib
from pathlib import Path
from matplotlib.figure import Figure
from tiny.vlm import write_onevision
import edge_et
from edge_et.benchmarks.plot import save_plot
from edge_et.export.building.build_bundle import build_bundle
from edge_et.export.building.build_files import BuildOptions
from edge_et.native_libraries import import_library
from edge_et.quantize import vision_methods

checkpoint = write_onevision(Path("onevision"))
build_bundle(str(checkpoint), Path("built"), options=BuildOptions(quantization="Q8_0"))
with edge_et.load("built") as pipe:
    pipe.answer({picture!r}, "What is this?", max_extraction_tokens=4)
save_plot(Figure(), Path("figure.svg"))
for name in ("huggingface_hub", "onnxscript", "peft", "psutil", "resvg_py", "transformers"):
    importlib.import_module(name)
for name in ("openvino", "openvino_genai", "openvino_tokenizers"):
    try:
        import_library(name)
    except ModuleNotFoundError:
        pass  # an extra of its own
"""


@pytest.mark.slow
def test_tools_report_to_nobody_and_keep_no_more_than_matplotlibs_fonts(tmp_path: Path) -> None:
    code = WORK.format(picture=str(ROOT / "examples" / "cat.png"))
    process = Watched(code, tmp_path / "watched", PYTHONPATH=str(ROOT / "tests"))
    process.live(60)
    process.end()
    made = {Path(path).parts[1] for path in process.kept("work")}
    assert made == {"built", "figure.svg", "onevision"}
    assert all("/matplotlib/" in path for path in process.kept("home"))
    if not process.is_traced:
        pytest.skip("strace is missing, or must not look at processes")
    assert process.connections() == []
    assert process.written_outside() == []
