"""`tvqrap-cli runs`: lists, deletes and exports trainings that have checkpoints."""

from pathlib import Path
from typing import Annotated

import typer

from tvqrap.cli.checkout import checkout
from tvqrap.cli.output_paths import check_folder_overwrite
from tvqrap.cli.plan import aligned, duration, short

app = typer.Typer(
    invoke_without_command=True, help="Trainings with checkpoints: list, delete or export them."
)


@app.callback()
def runs(ctx: typer.Context) -> None:
    """List trainings with checkpoints; `delete` removes one, `export` makes a model of one."""
    if ctx.invoked_subcommand is not None:
        return
    from stages.runner.trainings import saved_trainings

    found = saved_trainings(checkout())
    if not found:
        typer.echo("no training has a checkpoint")
        return
    rows = [["", "state", "step", "checkpoints", "changes", "bytes", "age"]]
    for training in found:
        steps = training.steps
        rows.append(
            [
                training.name,
                "finished" if training.finished else "unfinished",
                str(steps[-1]),
                str(len(steps)),
                str(len(training.changes)),
                short(training.bytes),
                duration(training.age),
            ]
        )
    typer.echo(aligned(rows))


@app.command()
def delete(
    names: Annotated[list[str], typer.Argument(help="Names as `tvqrap-cli runs` lists them.")],
) -> None:
    """Delete trainings with all of their checkpoints."""
    from stages.runner.trainings import delete_training, saved_training

    root = checkout()
    for training in [saved_training(root, name) for name in names]:
        delete_training(root, training)
        typer.echo(f"{training.name}: deleted")


@app.command()
def export(
    name: Annotated[str, typer.Argument(help="Name as `tvqrap-cli runs` lists it.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Model folder to write.")],
    step: Annotated[
        int | None, typer.Option(help="Step of a checkpoint; the newest by default.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing model.")] = False,
) -> None:
    """Write the averaged weights of a checkpoint as a model folder."""
    from stages.runner.trainings import export_model, saved_training
    from tvqrap.pretrained.folder import CONFIG

    training = saved_training(checkout(), name)
    check_folder_overwrite(output, (CONFIG,), "a model", overwrite)
    config = export_model(training, step, output)
    typer.echo(
        f"{output}: {config.kind} after {config.about['steps']} steps of {training.stage}, "
        f"fingerprint {config.fingerprint[:16]}"
    )
