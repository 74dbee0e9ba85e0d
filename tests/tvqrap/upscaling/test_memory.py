"""Upscaling where memory runs out."""

import numpy as np
import pytest
import torch

from tests.support.tiles import Enlarging, pixels
from tvqrap.images.tensors import to_tensor, to_uint8
from tvqrap.upscaling.upscaler import Upscaler


class Hungry(Enlarging):
    """Has memory for `room` LR pixels at a time."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.tried: list[int] = []

    def __deepcopy__(self, memo: object) -> "Hungry":
        return self  # tiles run in a copy with the statistics of the image

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        self.tried.append(lr.shape[0] * lr.shape[2] * lr.shape[3])
        if self.tried[-1] > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(lr)


@pytest.mark.parametrize("kind", ["rows", "array", "tensor", "batch"])
def test_tiles_are_halved_where_memory_runs_out(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    network = Hungry(256 * 256)
    upscaler = Upscaler(network, tile=1024)  # type: ignore[arg-type]
    lr = pixels(300, 420)
    expected = lr.repeat(4, 0).repeat(4, 1)
    seen: list[int] = []
    if kind == "rows":
        made = np.concatenate(list(upscaler.rows(lr, seen.append)))
        assert sum(seen) == 300 * 420
    elif kind == "tensor":
        made = to_uint8(upscaler(to_tensor(lr)))
    else:
        made = upscaler(lr) if kind == "array" else upscaler(lr[None])[0]
    np.testing.assert_array_equal(made, expected)
    assert upscaler.limits.tile == 256 and max(network.tried) > 256 * 256
    assert [record.getMessage() for record in caplog.records] == [
        "memory ran out, going on with tiles of 512",
        "memory ran out, going on with tiles of 256",
    ]
    network.tried.clear()
    upscaler(lr)  # the smaller tile stays
    assert max(network.tried) <= 256 * 256


def test_tiles_where_memory_runs_out_for_the_whole(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tvqrap.upscaling.upscaler.free_device_memory", lambda device: 1e12)
    network = Hungry(256 * 256)
    upscaler = Upscaler(network)  # type: ignore[arg-type]
    lr = pixels(300, 420)
    np.testing.assert_array_equal(upscaler(lr), lr.repeat(4, 0).repeat(4, 1))
    assert network.tried[0] == 320 * 448, "it was not tried whole"
    assert [record.getMessage() for record in caplog.records] == [
        "memory ran out, going on with tiles of 256"
    ]


def test_rows_that_are_there_stay_where_memory_runs_out_later() -> None:
    class HungryLater(Hungry):
        def forward(self, lr: torch.Tensor) -> torch.Tensor:
            if len(self.tried) == 8:  # the patches, a row of four tiles and more
                self.tried.append(0)
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(lr)

    upscaler = Upscaler(HungryLater(10**6), tile=128)  # type: ignore[arg-type]
    lr = pixels(300, 420)
    made = np.concatenate(list(upscaler.rows(lr)))
    np.testing.assert_array_equal(made, lr.repeat(4, 0).repeat(4, 1))
    assert upscaler.limits.tile == 64


def test_memory_that_runs_out_with_the_smallest_tile_is_an_error() -> None:
    upscaler = Upscaler(Hungry(100), tile=128)  # type: ignore[arg-type]
    with pytest.raises(torch.OutOfMemoryError):
        upscaler(pixels(100, 100))
