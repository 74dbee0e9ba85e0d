"""Runs the command line as `python -m tvqrap`, for environments without its script."""

from tvqrap.cli.main import app

app(prog_name="tvqrap-cli")
