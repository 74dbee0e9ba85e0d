"""Members of shards: arrays are read as NumPy reads them, from any number of threads."""

import gc
import io
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.shards.codec import decode_array, encode_array

NUMBERS = st.one_of(
    arrays.boolean_dtypes(),
    arrays.integer_dtypes(endianness="?"),
    arrays.unsigned_integer_dtypes(endianness="?"),
    arrays.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    arrays.complex_number_dtypes(endianness="?", sizes=(64, 128)),
)


@given(
    arrays.arrays(NUMBERS, arrays.array_shapes(min_dims=0, min_side=0)),
    st.sampled_from([(1, 0), (2, 0), (3, 0)]),
    st.booleans(),
)
def test_arrays_are_read_as_numpy_reads_them(
    array: np.ndarray, version: tuple[int, int], fortran: bool
) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array, order="F" if fortran else "C"), version)
    found = decode_array(stream.getvalue())
    assert found.dtype == array.dtype and found.shape == array.shape
    assert found.tobytes() == array.tobytes()
    assert found.flags.writeable


@pytest.mark.parametrize(
    "damage",
    [
        lambda sound: sound[:-1],
        lambda sound: sound[:9],
        lambda sound: b"PK" + sound[2:],
        lambda sound: sound.replace(b"<u2", b"|O "),
        lambda sound: sound.replace(b"<u2", b"<f3"),
        lambda sound: sound.replace(b"(4, 4), }", b"(4, -4),}"),
        lambda sound: sound.replace(b"(4, 4), }", b"(4,4e9),}"),
        lambda sound: sound.replace(b"(4, 4), }  ", b"(9999, 99),}"),
        lambda sound: sound.replace(b"shape", b"shapE"),
    ],
)
def test_all_else_is_no_array(damage) -> None:  # type: ignore[no-untyped-def]
    sound = encode_array(np.zeros((4, 4), np.uint16))
    damaged = damage(sound)
    assert damaged != sound
    with pytest.raises(ValueError, match="not an array of a shard"):
        decode_array(damaged)


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads take turns as often as they can, also while the collector runs."""
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()

    def pause(phase: str, info: object) -> None:
        sum(range(50))

    sys.setswitchinterval(1e-6)
    gc.set_threshold(5)
    gc.callbacks.append(pause)
    yield
    gc.callbacks.remove(pause)
    gc.set_threshold(*threshold)
    sys.setswitchinterval(interval)


def test_threads_read_at_once(switching: None) -> None:
    array = np.arange(64, dtype=np.uint16).reshape(8, 8)
    sound = encode_array(array)

    def read(depth: int) -> None:
        if depth:
            read(depth - 1)
        else:
            for _ in range(200):
                np.testing.assert_array_equal(decode_array(sound), array)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(0, 24, 3)))
