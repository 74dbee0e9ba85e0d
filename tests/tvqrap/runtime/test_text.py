"""Names and messages as they are shown."""

import pytest

from tvqrap.runtime.text import printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a b.png", "a b.png"),
        ("\x1b[31mred\x07.png", r"\x1b[31mred\x07.png"),
        ("two\nlines\r", r"two\x0alines\x0d"),
        ("b\udcffytes", r"b\xffytes"),
        ("c1\x9b2J", r"c1\x9b2J"),
        ("gnp\u202e.exe", r"gnp\u202e.exe"),
        ("line\u2028", r"line\u2028"),
        ("tag\U000e0041", r"tag\U000e0041"),
        ("[red]ärger 写真　👩\u200d🚀", "[red]ärger 写真　👩\u200d🚀"),
    ],
)
def test_what_would_move_the_cursor_is_escaped(name: str, shown: str) -> None:
    assert printable(name) == shown
    printable(name).encode()
