"""Makes the folder of the Home Assistant app: `python3 scripts/make_home_assistant_app.py FOLDER`.

The Supervisor builds an app from its folder alone, and edge-et is not on PyPI, so what pip installs
is put into the folder.
"""

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
APP = ROOT / "deploy" / "home-assistant" / "edge_et"
SOURCES = (
    *("pyproject.toml", "README.md", "LICENSE", "NOTICE"),
    *("edge_et", "benchmarks", "export", "quantize", "tuning"),
    *(f"scripts/{name}" for name in ("install.py", "make_venv.py", "llama_cpp.cmake")),
    *(f"models/mini/{name}" for name in ("pyproject.toml", "README.md", "NOTICE", "edge_et_mini")),
)
LEFT_OUT = shutil.ignore_patterns("__pycache__")


def make(folder: Path) -> None:
    """Write the app into a folder that is not there yet.

    Args:
        folder: where it goes.

    Raises:
        FileExistsError: there is such a folder.
    """
    shutil.copytree(APP, folder, ignore=LEFT_OUT)
    for name in SOURCES:
        source, target = ROOT / name, folder / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=LEFT_OUT)
        else:
            shutil.copy(source, target)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    make(Path(sys.argv[1]))
