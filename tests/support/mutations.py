"""Damage to files and documents: each function changes one thing, drawn from a generator."""

import copy
import json
import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

_HEAD = 512
"""Bytes at the beginning of a file that most changed fields are in: headers lie there."""
_EXTREMES = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1)
_FORMATS = ("B", ">H", "<H", ">I", "<I", ">Q", "<Q")

DEEP = "[" * 100_000
"""A document nested so deeply that a parser without a limit overflows its stack."""

ODD_VALUES: Sequence[Callable[[Random], Any]] = (
    lambda rng: None,
    lambda rng: rng.choice([True, False]),
    lambda rng: rng.choice([0, -1, 1, 2, 5, 255, 65536, 2**31, 2**63, 2**64, -(2**63), 10**400]),
    lambda rng: rng.choice([0.5, -0.0, 1e-320, 1e308, float("nan"), float("inf"), -float("inf")]),
    lambda rng: rng.choice(["", " ", "0", "nan", "None", "../../x", "/etc/passwd", "a" * 10_000]),
    lambda rng: rng.choice(["\x00", "\x1b[31m", "\n", "\u202e", "\ud800", "=1+1", "s3://a/b"]),
    lambda rng: rng.choice([[], {}, [[]], {"": None}, [None] * 1000, {"a": {"a": {"a": 1}}}]),
    lambda rng: _nested(rng.choice([50, 150, 400])),
)
"""Values of every type of JSON that no document expects, or that programs stumble over."""


def damaged(content: bytes, rng: Random, others: Sequence[bytes] = ()) -> bytes:
    """Content with one to four changes; `others` are files whose parts may be spliced in."""
    for _ in range(rng.choice([1, 1, 2, 4])):
        change = rng.choice(_CHANGES)
        content = change(content or b"\0", rng, others)
    return content


def _flip(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 2, 8, 32])):
        changed[_place(changed, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _set_field(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """A number of 1 to 8 bytes becomes an extreme one, or one near to it."""
    form = rng.choice(_FORMATS)
    size = struct.calcsize(form)
    value = rng.choice(_EXTREMES) + rng.choice([0, 0, 1, -1])
    field = struct.pack(form, value % 2 ** (8 * size))
    place = _place(content, rng)
    return content[:place] + field + content[place + size :]


def _cut(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    return content[: rng.randrange(len(content))]


def _extend(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    return content + rng.randbytes(rng.choice([1, 100, 10_000]))


def _remove(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    start, end = _span(content, rng)
    return content[:start] + content[end:]


def _repeat(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    start, end = _span(content, rng)
    return content[:end] + content[start:end] * rng.choice([1, 2, 50]) + content[end:]


def _fill(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    start, end = _span(content, rng)
    part = rng.choice([b"\0" * (end - start), b"\xff" * (end - start), rng.randbytes(end - start)])
    return content[:start] + part + content[end:]


def _move(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    start, end = _span(content, rng)
    place = _place(content, rng)
    return content[:place] + content[start:end] + content[place + end - start :]


def _splice(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """The beginning of this file and the end of another one."""
    other = rng.choice(others) if others else content
    return content[: rng.randrange(len(content) + 1)] + other[rng.randrange(len(other) + 1) :]


_CHANGES = (_flip, _flip, _set_field, _set_field, _cut, _extend, _remove, _repeat, _fill, _move)
_CHANGES += (_splice,)


def _place(content: Sequence[int], rng: Random) -> int:
    near = rng.random() < 0.7
    return rng.randrange(min(len(content), _HEAD) if near else len(content))


def _span(content: bytes, rng: Random) -> tuple[int, int]:
    start = _place(content, rng)
    return start, min(len(content), start + rng.choice([1, 2, 4, 12, 64, 1000]))


def with_checksums(content: bytes) -> bytes:
    """A PNG whose chunks have the checksums that a reader expects, as far as chunks can be told."""
    parts, place = [content[:8]], 8
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        end = place + 8 + length
        if end + 4 > len(content):
            break
        parts.append(content[place:end] + struct.pack(">I", zlib.crc32(content[place + 4 : end])))
        place = end + 4
    return b"".join(parts) + content[place:]


def odd_document(document: Any, rng: Random) -> Any:
    """A copy of a tree of JSON values with one to three changes: values, keys, entries, types."""
    changed = copy.deepcopy(document)
    for _ in range(rng.choice([1, 1, 2, 3])):
        places = list(_places(changed))
        if not places:
            return rng.choice(ODD_VALUES)(rng)
        _change_document(*rng.choice(places), rng)
    return changed


def _change_document(parent: Any, key: Any, rng: Random) -> None:
    match rng.randrange(6):
        case 0:
            del parent[key]
        case 1:  # another key or entry
            value = rng.choice(ODD_VALUES)(rng)
            if isinstance(parent, dict):
                parent[rng.choice(["extra", "", "\x1b[2J", "__class__", "a" * 1000])] = value
            else:
                parent.insert(rng.randrange(len(parent) + 1), value)
        case 2 if isinstance(parent, dict):  # a value under the name of its neighbour
            parent[rng.choice(list(parent))] = parent[key]
        case 3 if isinstance(parent, list):
            parent.extend(copy.deepcopy(parent[key]) for _ in range(rng.choice([1, 3])))
        case 4:
            parent[key] = rng.choice([[parent[key]], {"value": parent[key]}, str(parent[key])[:99]])
        case _:
            parent[key] = rng.choice(ODD_VALUES)(rng)


def _places(document: Any) -> Any:
    """(parent, key) of every value below the top, parents first."""
    entries = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document)
        if isinstance(document, list)
        else ()
    )
    for key, value in list(entries):
        yield document, key
        yield from _places(value)


def _nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def odd_json(content: bytes, rng: Random) -> bytes:
    """A JSON document changed as a tree, or as bytes, or another text in its place."""
    kind = rng.random()
    if kind < 0.7:
        return json.dumps(odd_document(json.loads(content), rng)).encode()
    if kind < 0.95:
        return damaged(content, rng)
    texts = [DEEP, '{"a":' * 50_000, "", "null", "nan", "1e999", '"\ud800"', "{}", "[]", "\ufeff{}"]
    return rng.choice(texts).encode("utf-8", "surrogatepass")
