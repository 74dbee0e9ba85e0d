"""`tvqrap-cli`: the groups of commands, and how errors are shown."""

import errno
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import tvqrap
from tvqrap.cli import (
    average,
    benchmark,
    card,
    convert,
    decompose,
    evaluate,
    export,
    import_checkpoint,
    metrics,
    pairs,
    params,
    push,
    runs,
    tokens,
    ui,
    upscale,
)
from tvqrap.runtime.cores import watch_cores
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.signals import exit_on_sigterm
from tvqrap.runtime.text import printable

_CHECKOUT_PACKAGES = ("pipeline", "stages")


class _Group(TyperGroup):
    """A group of commands whose help needs little time."""

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)
        if option is not None:
            # typer imports pydantic to make a bool of None, which takes a third of the time.
            option.default = False
        return option


class _Commands(_Group):
    """Shows an error that users can mend as one line on standard error, with its exit code."""

    def invoke(self, ctx: Any) -> Any:
        watch_cores()
        try:
            with exit_on_sigterm():
                return super().invoke(ctx)
        except UserError as error:
            message, exit_code = str(error), error.exit_code
        except OSError as error:
            if error.errno == errno.EPIPE or error.strerror is None:
                raise
            # The error of a file or folder that the user named; foreseen errors have better lines.
            where = f"{error.filename}: " if error.filename is not None else ""
            message, exit_code = f"{where}{error.strerror}", UserError.exit_code
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in _CHECKOUT_PACKAGES:
                raise
            message = "this command needs a checkout of the project, installed in editable mode"
            exit_code = UserError.exit_code
        typer.echo(f"error: {printable(message)}", err=True)
        raise typer.Exit(exit_code)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode=None,  # plain help takes half of the time
    help="Enlarge photographs four times, and measure how well that works.",
)
app.command("upscale")(upscale.upscale)
app.command("ui")(ui.ui)
app.command("evaluate")(evaluate.evaluate)
app.command("metrics")(metrics.metrics)
app.command("benchmark")(benchmark.benchmark)
app.command("import")(import_checkpoint.import_checkpoint)
app.command("decompose")(decompose.decompose)
app.command("convert")(convert.convert)
app.command("average")(average.average)
app.command("export")(export.export)
app.command("card")(card.card)
app.command("push")(push.push)
app.add_typer(pairs.app, name="pairs", cls=_Group)
app.add_typer(params.app, name="params", cls=_Group)
app.add_typer(runs.app, name="runs", cls=_Group)
app.add_typer(tokens.app, name="tokens", cls=_Group)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tvqrap {tvqrap.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


if __name__ == "__main__":
    app(prog_name="tvqrap-cli")
