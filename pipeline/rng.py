"""Random streams that depend on names alone, never on the order of the work or its process."""

import hashlib

import numpy as np


def random_stream(*identity: int | str) -> np.random.Generator:
    """The generator that belongs to an identity such as (seed, "degrade", photo, crop, variant)."""
    return np.random.Generator(np.random.PCG64(int.from_bytes(_digest(identity)[:16])))


def random_rank(*identity: int | str) -> bytes:
    """A sort key: ranks give identities a random order in which none depends on the others."""
    return _digest(identity)


def _digest(identity: tuple[int | str, ...]) -> bytes:
    # repr keeps 1 and "1", and ("a", "b") and ("a b",), apart.
    return hashlib.sha256(repr(identity).encode()).digest()
