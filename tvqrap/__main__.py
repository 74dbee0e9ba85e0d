"""`python -m tvqrap`: the command line, where its script is not on the path."""

from tvqrap.cli.main import app

app(prog_name="tvqrap-cli")
