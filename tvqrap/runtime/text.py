"""Names and messages as they are shown: on a terminal, in a log, in a report."""

import unicodedata
from pathlib import Path

_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories of controls, formats, surrogates and separators of lines."""
_JOINERS = "\u200c\u200d"
"""Formats that Persian words and emoji are spelt with."""


def printable(name: str | Path) -> str:
    r"""Returns a name, or a message that holds names, as one line without control characters.

    Bytes that are not UTF-8 and control characters become `\xNN`; other characters that move the
    cursor, break the line or turn the writing direction become `\uNNNN`.
    """
    text = str(name)
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _ESCAPED or character in _JOINERS:
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python holds a byte of a file name that is not UTF-8
        code -= 0xDC00
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
