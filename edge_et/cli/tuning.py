"""`edge-et tuning`: train the mini model, build its bundle, measure it."""

from pathlib import Path
from typing import Annotated

import typer

from edge_et.cli.console import print_reports

tuning_app = typer.Typer(
    help="Visual extraction tuning: the mini model's recipe and its evaluation.",
    no_args_is_help=True,
)

Work = Annotated[Path, typer.Argument(help="Folder for downloads, features and checkpoints.")]


@tuning_app.command()
def scenes(
    out: Annotated[Path, typer.Argument(help="The PNG to write.")],
    style: Annotated[str, typer.Option(help="Drawing style.")] = "noto",
    first_seed: Annotated[int, typer.Option(min=0, help="Seed of the first scene.")] = 0,
    icons: Annotated[Path, typer.Option(help="Folder for downloaded drawings.")] = Path(
        "runs/icons"
    ),
) -> None:
    """Draw a sheet of 24 training scenes, to see what the model learns from."""
    from PIL import Image

    from edge_et.tuning.assets import IconLibrary
    from edge_et.tuning.scenes import SCENE_PIXELS, render_scene

    library = IconLibrary(style, icons)
    sheet = Image.new("RGB", (6 * SCENE_PIXELS, 4 * SCENE_PIXELS))
    for k in range(24):
        scene = render_scene(first_seed + k, library)
        sheet.paste(scene.picture, (k % 6 * SCENE_PIXELS, k // 6 * SCENE_PIXELS))
    sheet.save(out)


@tuning_app.command()
def train(
    work: Work,
    align_scenes: Annotated[int, typer.Option(min=1, help="Scenes of the alignment.")] = 7424,
    tune_scenes: Annotated[int, typer.Option(min=1, help="Scenes of the joint tuning.")] = 4352,
    align_steps: Annotated[int, typer.Option(min=1, help="Steps of the alignment.")] = 600,
    tune_steps: Annotated[int, typer.Option(min=1, help="Steps of the joint tuning.")] = 225,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, batches and questions.")] = 0,
) -> None:
    """Train the mini model; a killed run goes on where it was."""
    from edge_et.tuning.align import AlignSettings
    from edge_et.tuning.mini import MiniSettings, train_mini
    from edge_et.tuning.train import TrainSettings

    settings = MiniSettings(
        align_scenes=align_scenes,
        tune_scenes=tune_scenes,
        align=AlignSettings(steps=align_steps, seed=seed),
        tune=TrainSettings(steps=tune_steps, seed=seed),
    )
    train_mini(work, settings, lambda line: typer.echo(line, err=True))


@tuning_app.command()
def build(
    work: Work,
    out: Annotated[Path, typer.Option("--out", help="Folder of the bundle.")],
    version: Annotated[str, typer.Option(help="Version of the bundle's content.")],
) -> None:
    """Export, quantize and assemble the trained mini model."""
    from edge_et.tuning.mini import build_mini

    print_reports(build_mini(work / "tune.pt", out, work, version))


@tuning_app.command()
def evaluate(
    model: Annotated[
        str | None, typer.Argument(help="A bundle; the installed mini if omitted.")
    ] = None,
    per_kind: Annotated[int, typer.Option(min=1, help="Questions a kind.")] = 150,
    style: Annotated[
        str, typer.Option(help="A drawing style, or 'trained' for all that training saw.")
    ] = "trained",
    icons: Annotated[Path, typer.Option(help="Folder for downloaded drawings.")] = Path(
        "runs/icons"
    ),
    kind: Annotated[
        list[str] | None, typer.Option(help="A kind of question, may be repeated; all if omitted.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads; all CPUs if omitted.")] = None,
    wrong: Annotated[
        Path | None, typer.Option(help="Write what was answered wrong to this JSON Lines file.")
    ] = None,
) -> None:
    """Ask a bundle about held-out scenes and print its accuracy by kind of question."""
    import msgspec
    from rich.console import Console

    import edge_et
    from edge_et.tuning.assets import IconLibrary
    from edge_et.tuning.concepts import TRAINING_STYLES
    from edge_et.tuning.evaluate import held_out_questions, is_right, run_trials, table
    from edge_et.tuning.questions import KINDS

    styles = TRAINING_STYLES if style == "trained" else (style,)
    libraries = [IconLibrary(name, icons) for name in styles]
    results = {}
    with edge_et.load(model, threads=threads) as pipe, Console(stderr=True).status("") as status:
        for asked in kind or KINDS:
            status.update(f"asking: {asked}")
            results[asked] = run_trials(pipe, held_out_questions(asked, per_kind, libraries))
    print(table(results))
    if wrong is not None:
        missed = [
            trial
            for trials in results.values()
            for trial in trials
            if not is_right(trial.answered, trial.example.answer)
        ]
        wrong.write_bytes(msgspec.json.Encoder().encode_lines(missed))
