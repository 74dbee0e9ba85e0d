"""File names that can be written down, whatever bytes they are made of."""


def readable(name: str) -> str:
    """A name as the system gives it, with bytes that are no UTF-8 written as `\\xNN`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
