"""`tvqrap-cli params`: shows, checks and chooses the parameters of a checkout."""

from pathlib import Path
from typing import Annotated

import typer

from tvqrap.cli import plan
from tvqrap.cli.checkout import checkout

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The parameters of the pipeline (params.yaml).",
)
app.command()(plan.plan)


@app.command()
def show() -> None:
    """Print params.yaml, after checking it."""
    from stages.params import parse_params
    from stages.profile import read_text

    path = checkout() / "params.yaml"
    text = read_text(path)
    parse_params(text, str(path))
    typer.echo(text, nl=False)


@app.command()
def check(
    file: Annotated[
        Path | None,
        typer.Argument(help="A file of parameters or a profile; params.yaml if not given."),
    ] = None,
) -> None:
    """Check a file of parameters; an error names the key, its value and the allowed values."""
    from stages.params import load_params, parse_params
    from stages.profile import read_text

    if file is None:
        path = checkout() / "params.yaml"
        parse_params(read_text(path), str(path))
    else:
        path = file
        load_params(path)
    typer.echo(f"{path}: every key is there and allowed")


@app.command()
def use(
    profile: Annotated[str, typer.Argument(help="Name of a file in stages/profiles.")],
) -> None:
    """Replace params.yaml by a profile, after checking it."""
    from stages.params import parse_params
    from stages.profile import expanded, profile_path
    from stages.runner.weights import missing_weights
    from tvqrap.runtime.atomic import write_atomic

    root = checkout()
    path = profile_path(profile, root)
    text = expanded(path)
    params = parse_params(text, str(path))
    write_atomic(root / "params.yaml", text)
    typer.echo(f"params.yaml is now the profile {profile}; `dvc params diff` shows what changed")
    if missing := missing_weights(params):
        typer.echo(missing, err=True)


@app.command()
def docs(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Markdown file; standard output if not given."),
    ] = None,
) -> None:
    """Print the reference page of all params, or write it to a file."""
    from stages.params_page import params_page
    from tvqrap.runtime.atomic import write_atomic

    page = params_page((checkout() / "stages/profiles/laptop.yaml").read_text(encoding="utf-8"))
    if output is None:
        typer.echo(page, nl=False)
    else:
        write_atomic(output, page)
