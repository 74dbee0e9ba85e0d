"""`python -m stages.experiments`: runs the paper's ablations and collects their scores."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from stages.experiments.recipe import FOLDER, load_recipe, runs_of
from tvqrap.cli.options import Device, Rounds, Threads
from tvqrap.runtime.errors import UsageError, UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode=None,
    help="Run the paper's ablations, point by point, and collect their scores.",
)

Given = Annotated[
    str, typer.Argument(metavar="RECIPE", help=f"Name of a recipe in {FOLDER}, or a YAML file.")
]

Seeds = Annotated[
    int | None, typer.Option(min=1, help="How many of the recipe's seeds; all if not given.")
]
Profile = Annotated[
    str | None,
    typer.Option(help="Profile in place of the recipe's; its network, budget and photographs."),
]
Photos = Annotated[
    Path | None, typer.Option(help="Folder of photographs in place of the profile's.")
]


@app.command()
def run(
    recipe: Given,
    seeds: Seeds = None,
    points: Annotated[
        str, typer.Option(help="Points to run, with commas between; all if not given.")
    ] = "",
    profile: Profile = None,
    photos: Photos = None,
) -> None:
    """Run the points of a recipe that have no result yet. It can be stopped and started again.

    TVQRAP_EXECUTOR=processes or ray runs TVQRAP_WORKERS points side by side.
    """
    from stages.experiments.run import run_recipe
    from stages.runner.executor import chosen_executor

    _check_here()
    name, loaded = load_recipe(recipe, profile)
    chosen = [point.strip() for point in points.split(",") if point.strip()]
    executor = chosen_executor("serial")
    runs = runs_of(loaded, name, points=chosen, seeds=seeds, photos=photos)
    try:
        failed = run_recipe(name, loaded, runs, executor)
    except KeyboardInterrupt:
        typer.echo(f"{name}: stopped; the same command resumes from here", err=True)
        raise typer.Exit(130) from None
    if failed:
        raise UserError(f"{len(failed)} runs failed: {', '.join(failed)}")


@app.command()
def collect(
    recipe: Given,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Markdown file for the table; a file with the recipe's marks keeps the rest. A "
            "chart goes beside it. Standard output if not given.",
        ),
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(help="Digest of other inputs than those of the present code."),
    ] = None,
    seeds: Seeds = None,
    profile: Profile = None,
    photos: Photos = None,
) -> None:
    """Put the results of a recipe into a table, and a chart where it has one."""
    from stages.experiments.chart import draw_chart
    from stages.experiments.collect import collect as gather
    from stages.experiments.table import filled, markdown_table
    from tvqrap.runtime.atomic import write_atomic

    _check_here()
    name, loaded = load_recipe(recipe, profile)
    runs = runs_of(loaded, name, seeds=seeds, photos=photos)
    collection = gather(loaded, runs, inputs)
    options = [("--seeds", seeds), ("--profile", profile), ("--photos", photos)]
    given = [f"{option} {value}" for option, value in options if value is not None]
    content = [markdown_table(collection, " ".join([recipe, *given]))]
    if output is None:
        typer.echo(content[0], nl=False)
    else:
        if loaded.chart is not None:
            picture = output.with_name(f"{name}.png")
            content.append(f"![{loaded.title}]({picture.name})\n")
        text = f"### {loaded.title}\n\n" + "\n".join(content)
        if output.exists():
            text = filled(output.read_text(encoding="utf-8"), name, content, str(output))
        if loaded.chart is not None:
            draw_chart(collection, picture)
        write_atomic(output, text)
        typer.echo(f"{output}: holds {loaded.paper} now")
    if collection.others:
        typer.echo(
            f"{name}: results of other code, photographs or weights are left out; --inputs shows "
            f"them: {', '.join(collection.others)}",
            err=True,
        )


@app.command()
def cost(
    recipe: Given,
    side: Annotated[int, typer.Option(min=1, help="Side of the square LR image.")] = 64,
    rounds: Rounds = 5,
    threads: Threads = None,
    device: Device = "auto",
    profile: Profile = None,
) -> None:
    """Measure upscaling with the network of each point: time, parameters, arithmetic, memory.

    Nothing needs to be trained. Prints a Markdown table.
    """
    import torch

    from stages.experiments.cost import point_costs
    from tvqrap.cli.benchmark import markdown_lines
    from tvqrap.runtime.device import select_device
    from tvqrap.runtime.memory import keep_freed_memory

    _check_here()
    name, loaded = load_recipe(recipe, profile)
    chosen = str(select_device(device, "--device"))
    if threads is not None:
        torch.set_num_threads(threads)
    keep_freed_memory()
    found, names = point_costs(runs_of(loaded, name, seeds=1), side, rounds=rounds, device=chosen)
    for line in markdown_lines(found, names, rounds, chosen):
        typer.echo(line)
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)


def _check_here() -> None:
    if not (Path("dvc.yaml").is_file() and FOLDER.is_dir()):
        raise UsageError(f"{Path.cwd()}: expected the top folder of a checkout; run it there")


def main() -> None:
    """Runs the command line. A user's mistake is one line on standard error."""
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
