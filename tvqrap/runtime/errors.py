"""Errors that the user can mend, shown as one line and never as a traceback."""


class UserError(Exception):
    """Something given to the program cannot be used.

    The message is one line that names the file, key or option, what was found and what was
    expected. Programs print it and exit with `exit_code`.
    """

    exit_code = 1


class UsageError(UserError):
    """The request itself is wrong: an impossible option or parameter."""

    exit_code = 2
