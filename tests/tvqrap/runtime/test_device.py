"""Names of devices, and the devices that they stand for."""

import pytest
import torch

from tvqrap.runtime.device import means_cuda, select_device, set_cuda_arithmetic, worker_devices
from tvqrap.runtime.device_memory import is_out_of_memory
from tvqrap.runtime.errors import UsageError


def with_devices(
    monkeypatch: pytest.MonkeyPatch, cuda: int = 0, mps: bool = False, xpu: int = 0
) -> None:
    """Makes torch find these devices."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch.xpu, "device_count", lambda: xpu)


@pytest.mark.parametrize(
    ("found", "chosen"),
    [
        ({}, "cpu"),
        ({"xpu": 1}, "xpu"),
        ({"mps": True}, "mps"),
        ({"cuda": 2, "xpu": 1}, "cuda"),
        ({"mps": True, "xpu": 1}, "mps"),
    ],
)
def test_auto_is_the_first_that_is_there(
    found: dict[str, int], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_devices(monkeypatch, **found)
    assert select_device("auto") == torch.device(chosen)
    assert select_device("cpu") == torch.device("cpu")


def test_numbered_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    with_devices(monkeypatch, cuda=2)
    assert select_device("cuda:1") == torch.device("cuda:1")
    for name in ("cuda:2", "xpu", "mps"):
        with pytest.raises(UsageError) as error:
            select_device(name, "--device")
        expected = f"--device is '{name}', but torch finds no such device, only cuda, cuda:1, cpu"
        assert str(error.value) == expected


@pytest.mark.parametrize("name", ["tpu", "", "cuda:", "cuda:x", "cpu:0", "CUDA"])
def test_other_words_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"compute.device is '{name}', expected auto, cpu, cuda,"):
        select_device(name, "compute.device")


def test_names_that_mean_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    for there in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert means_cuda("cuda") and means_cuda("cuda:1") and not means_cuda("cpu")
        assert means_cuda("auto") == there


def test_workers_take_all_cuda_devices_but_one_with_a_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_devices(monkeypatch, cuda=4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = {name: worker_devices(name) for name in ("cuda", "auto", "cuda:1", "cpu", "mps")}
    assert found == {"cuda": 4, "auto": 4, "cuda:1": 1, "cpu": 1, "mps": 1}
    with_devices(monkeypatch)
    assert worker_devices("cuda") == 1


def test_arithmetic_of_cuda_devices_leaves_cpus_alone() -> None:
    a, b = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0)).unbind()
    before = a @ b
    try:
        set_cuda_arithmetic(tf32=True, cudnn_benchmark=True)
        assert torch.backends.cuda.matmul.allow_tf32 and torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.benchmark and torch.equal(a @ b, before)
    finally:
        set_cuda_arithmetic(tf32=False, cudnn_benchmark=False)
    assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cudnn.benchmark


def test_memory_that_ran_out_is_told_from_other_errors() -> None:
    for error in (
        MemoryError(),
        torch.OutOfMemoryError("CUDA"),
        RuntimeError("MPS backend out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ):
        assert is_out_of_memory(error)
    for other in (RuntimeError("shapes differ"), ValueError("memory")):
        assert not is_out_of_memory(other)
