"""`edge-et tuning`: train the mini model, build its bundle, measure it."""

from pathlib import Path

import click

from edge_et.cli.console import print_reports

PATH = click.Path(path_type=Path)

icons_option = click.option(
    "--icons", type=PATH, default=Path("runs/icons"), help="Folder for downloaded drawings."
)


@click.group()
def tuning() -> None:
    """Visual extraction tuning: the mini model's recipe and its evaluation."""


@tuning.command()
@click.argument("out", type=PATH)
@click.option("--style", default="noto", help="Drawing style.")
@click.option("--first-seed", type=click.IntRange(min=0), default=0, help="Of the first scene.")
@icons_option
def scenes(out: Path, style: str, first_seed: int, icons: Path) -> None:
    """Draw a sheet of 24 scenes to the PNG file OUT, to see what the model learns from."""
    from PIL import Image

    from edge_et.tuning.assets import IconLibrary
    from edge_et.tuning.scenes import SCENE_PIXELS, render_scene

    library = IconLibrary(style, icons)
    sheet = Image.new("RGB", (6 * SCENE_PIXELS, 4 * SCENE_PIXELS))
    for k in range(24):
        scene = render_scene(first_seed + k, library)
        sheet.paste(scene.picture, (k % 6 * SCENE_PIXELS, k // 6 * SCENE_PIXELS))
    sheet.save(out)


@tuning.command()
@click.argument("work", type=PATH)
@click.option("--align-scenes", type=click.IntRange(min=1), default=7168)
@click.option("--align-steps", type=click.IntRange(min=1), default=600)
@click.option("--tune-scenes", type=click.IntRange(min=1), default=4352)
@click.option("--tune-steps", type=click.IntRange(min=1), default=300)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, help="Of weights, batches and questions."
)
def train(
    work: Path, align_scenes: int, align_steps: int, tune_scenes: int, tune_steps: int, seed: int
) -> None:
    """Train the mini model in the folder WORK; a killed run goes on where it was."""
    from edge_et.tuning.align import AlignSettings
    from edge_et.tuning.mini import MiniSettings, train_mini
    from edge_et.tuning.train import TrainSettings

    settings = MiniSettings(
        align_scenes=align_scenes,
        tune_scenes=tune_scenes,
        align=AlignSettings(steps=align_steps, seed=seed),
        tune=TrainSettings(steps=tune_steps, seed=seed),
    )
    train_mini(work, settings, lambda line: click.echo(line, err=True))


@tuning.command()
@click.argument("work", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder of the bundle.")
@click.option("--version", required=True, help="Version of the bundle's content.")
def build(work: Path, out: Path, version: str) -> None:
    """Export, quantize and assemble the mini model that was trained in WORK."""
    from edge_et.tuning.mini import build_mini

    print_reports(build_mini(work / "tune.pt", out, work, version))


@tuning.command()
@click.argument("model", required=False)
@click.option("--per-kind", type=click.IntRange(min=1), default=150, help="Questions a kind.")
@click.option("--kind", "kinds", multiple=True, help="May be repeated; all kinds if omitted.")
@click.option("--style", default="trained", help="A drawing style; or all that training saw.")
@click.option("--threads", type=int, help="Threads; all CPUs of this process if omitted.")
@click.option("--wrong", type=PATH, help="JSON Lines file for what was answered wrong.")
@icons_option
def evaluate(
    model: str | None,
    per_kind: int,
    kinds: tuple[str, ...],
    style: str,
    threads: int | None,
    wrong: Path | None,
    icons: Path,
) -> None:
    """Ask a bundle about held-out scenes and print its accuracy by kind of question.

    MODEL is a bundle's name or folder; the installed mini if omitted.
    """
    import msgspec

    import edge_et
    from edge_et.tuning.assets import IconLibrary
    from edge_et.tuning.concepts import TRAINING_STYLES
    from edge_et.tuning.evaluate import held_out_questions, is_right, run_trials, table
    from edge_et.tuning.questions import KINDS

    styles = TRAINING_STYLES if style == "trained" else (style,)
    libraries = [IconLibrary(name, icons) for name in styles]
    results = {}
    with edge_et.load(model, threads=threads) as pipe:
        for kind in kinds or KINDS:
            click.echo(f"asking: {kind}", err=True)
            results[kind] = run_trials(pipe, held_out_questions(kind, per_kind, libraries))
    print(table(results))
    if wrong is not None:
        missed = [
            trial
            for trials in results.values()
            for trial in trials
            if not is_right(trial.answered, trial.example.answer)
        ]
        wrong.write_bytes(msgspec.json.Encoder().encode_lines(missed))
