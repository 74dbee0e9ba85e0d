"""The command line in this process."""

from click.testing import Result
from typer.testing import CliRunner

from tvqrap.cli.main import app


def run(*words: object, stdin: bytes | None = None) -> Result:
    """Runs `tvqrap-cli` with these words."""
    return CliRunner().invoke(app, [str(word) for word in words], input=stdin)
