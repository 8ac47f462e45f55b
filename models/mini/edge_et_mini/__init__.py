"""The mini bundle. edge-et finds it by the entry point `edge_et.bundles: mini`."""

from pathlib import Path

FOLDER = Path(__file__).parent
