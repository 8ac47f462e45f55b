"""`edge-et train`: visual extraction tuning, from data to a measured bundle."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_et.cli.console import print_reports
from edge_et.cli.renamed import group_with_old_names
from edge_et.cli.train_evaluate import evaluate
from edge_et.cli.train_make_data import make_data
from edge_et.cli.train_own import own
from edge_et.cli.train_photographs import failures, photographs

if TYPE_CHECKING:
    from edge_et.tuning.mini.scenes.draw_scene import Family

PATH = click.Path(path_type=Path)

assets_option = click.option(
    "--assets", type=PATH, default=Path("runs/assets"), help="Folder of downloads."
)


@click.group(cls=group_with_old_names({"train": "run"}))
def train() -> None:
    """Tune models for visual extraction: data, training, evaluation."""


@train.command()
@click.argument("out", type=PATH)
@click.option(
    "--family", type=click.Choice(["objects", "photograph", "print", "chart"]), help="One alone."
)
@click.option("--held-out", is_flag=True, help="Draw as for evaluation.")
@click.option("--first-seed", type=click.IntRange(min=0), default=0, help="Of the first scene.")
@assets_option
def scenes(
    out: Path,
    family: "Family | None",
    held_out: bool,
    first_seed: int,
    assets: Path,
) -> None:
    """Draw a sheet of 24 scenes to the PNG file OUT, to see what the model learns from."""
    from PIL import Image

    from edge_et.tuning.mini.assets.scene_kit import scene_kit
    from edge_et.tuning.mini.scenes.draw_scene import render_scene
    from edge_et.tuning.mini.scenes.scene import SCENE_PIXELS

    kit = scene_kit(assets, held_out=held_out)
    sheet = Image.new("RGB", (6 * SCENE_PIXELS, 4 * SCENE_PIXELS))
    for k in range(24):
        scene = render_scene(first_seed + k, kit, family)
        sheet.paste(scene.picture, (k % 6 * SCENE_PIXELS, k // 6 * SCENE_PIXELS))
    sheet.save(out)


@train.command()
@click.argument("config", type=PATH)
def run(config: Path) -> None:
    """Train in the stages that the TOML file CONFIG tells; a killed run goes on where it was."""
    from edge_et.tuning.mini.train_config import load_config
    from edge_et.tuning.mini.train_mini import train_mini

    checkpoint = train_mini(load_config(config), lambda line: click.echo(line, err=True))
    click.echo(str(checkpoint))


@train.command()
@click.argument("checkpoint", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder of the bundle.")
@click.option("--version", required=True, help="Version of the bundle's content.")
@assets_option
def build(checkpoint: Path, out: Path, version: str, assets: Path) -> None:
    """Export, quantize and assemble the mini model of a CHECKPOINT that `train` left."""
    from edge_et.tuning.mini.build_mini import build_mini

    print_reports(build_mini(checkpoint, out, assets, version))


for command in (evaluate, failures, make_data, own, photographs):
    train.add_command(command)
