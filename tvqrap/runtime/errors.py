"""Errors that the user can mend, and the lines that errors are shown as."""


class UserError(Exception):
    """Something given to the program cannot be used.

    The message is one line that names the file, key or option, what was found and what was
    expected. Programs print it and exit with `exit_code`.
    """

    exit_code = 1


class UsageError(UserError):
    """The request itself is wrong: an impossible option or parameter."""

    exit_code = 2


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class where it has no message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def one_line(error: BaseException) -> str:
    """The class of an error and the first line of its message."""
    name = type(error).__name__
    return f"{name}: {first_line(error)}" if str(error).strip() else name
