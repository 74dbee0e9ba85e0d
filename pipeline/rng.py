"""Random streams that depend on names alone, never on the order of the work or its process."""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def random_stream(*identity: int | str) -> np.random.Generator:
    """The generator that belongs to an identity such as (seed, "degrade", photo, crop, variant)."""
    return np.random.Generator(np.random.PCG64(int.from_bytes(_digest(identity)[:16])))


def random_rank(*identity: int | str) -> bytes:
    """A sort key: ranks give identities a random order in which none depends on the others."""
    return _digest(identity)


def random_order(*identity: int | str, names: Iterable[str]) -> NDArray[np.uint64]:
    """The ranks of (*identity, name) as columns for `np.lexsort`, uint64 (4, N).

    They sort as `random_rank` does; the last row counts most.
    """
    start = repr(identity)[:-1] + (" " if len(identity) == 1 else ", ")
    digests = bytearray()
    for name in names:
        digests += hashlib.sha256(f"{start}{name!r})".encode()).digest()
    return np.frombuffer(digests, ">u8").reshape(-1, 4).T[::-1].astype(np.uint64)


def _digest(identity: tuple[int | str, ...]) -> bytes:
    # repr keeps 1 and "1", and ("a", "b") and ("a b",), apart.
    return hashlib.sha256(repr(identity).encode()).digest()
