"""`tvqrap-cli params`: look at, check and choose the parameters of a checkout."""

from pathlib import Path
from typing import Annotated

import typer

from tvqrap.cli import plan
from tvqrap.cli.checkout import checkout
from tvqrap.runtime.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="The parameters of the pipeline (params.yaml).")
app.command()(plan.plan)


def _profiles(root: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted((root / "stages" / "profiles").glob("*.yaml"))}


@app.command()
def show() -> None:
    """Print params.yaml, after checking it."""
    from stages.params import load_params

    path = checkout() / "params.yaml"
    load_params(path)
    typer.echo(path.read_text(encoding="utf-8"), nl=False)


@app.command()
def check(
    file: Annotated[
        Path | None, typer.Argument(help="A file of parameters; params.yaml if not given.")
    ] = None,
) -> None:
    """Check a file of parameters; what is wrong is named with what is allowed."""
    from stages.params import load_params

    path = file or checkout() / "params.yaml"
    load_params(path)
    typer.echo(f"{path}: every key is there and allowed")


@app.command()
def use(
    profile: Annotated[str, typer.Argument(help="Name of a file in stages/profiles.")],
) -> None:
    """Replace params.yaml by a profile, after checking it."""
    from stages.params import load_params
    from tvqrap.runtime.atomic import write_atomic

    root = checkout()
    profiles = _profiles(root)
    if profile not in profiles:
        raise UsageError(f"profile {profile!r} is not known, expected one of {', '.join(profiles)}")
    load_params(profiles[profile])
    write_atomic(root / "params.yaml", profiles[profile].read_bytes())
    typer.echo(f"params.yaml is now the profile {profile}; `dvc params diff` shows what changed")


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
