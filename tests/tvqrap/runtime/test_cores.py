"""How many cores are idle."""

from pathlib import Path

import pytest

from tvqrap.runtime import cores


class Machine:
    """A machine of four cores; `busy` of them work for others while time passes."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 100.0
        self.busy = [0.0] * 4
        self.statistics = folder / "stat"
        self.quota = folder / "cpu.max"
        self.quota.write_text("max 100000\n")
        self.used = [0.0] * 4
        self.affinity = {0, 1, 2, 3}
        self.sleep(0)
        # Commands of other tests have begun to watch the cores.
        monkeypatch.setattr("tvqrap.runtime.cores._start", None)
        monkeypatch.setattr("tvqrap.runtime.cores._STATISTICS", self.statistics)
        monkeypatch.setattr("tvqrap.runtime.cores._QUOTA", self.quota)
        monkeypatch.setattr("os.sched_getaffinity", lambda process: self.affinity)
        monkeypatch.setattr("os.sysconf", lambda name: 100)
        monkeypatch.setattr("time.monotonic", lambda: self.seconds)
        monkeypatch.setattr("time.sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        lines = ["cpu 0 0 0 0 0 0 0 0 0 0"]
        for core in range(4):
            self.used[core] += seconds * self.busy[core]
            lines.append(f"cpu{core} {round(100 * self.used[core])} 0 0 0 0 0 0 0 0 0")
        self.statistics.write_text("\n".join([*lines, "intr 1", ""]))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_cores_that_others_use_are_not_idle(machine: Machine) -> None:
    assert cores.idle_cores() == 4
    machine.busy = [1, 0.9, 0, 0]
    assert cores.idle_cores() == 2
    machine.busy = [1, 1, 1, 1]
    assert cores.idle_cores() == 1


def test_cores_of_others_are_not_counted(machine: Machine) -> None:
    machine.busy = [1, 1, 0, 0]
    machine.affinity = {2, 3}
    assert cores.idle_cores() == cores.usable_cores() == 2


def test_a_quota_is_kept(machine: Machine) -> None:
    machine.quota.write_text("150000 100000\n")
    assert cores.usable_cores() == 2 and cores.idle_cores() == 2


def test_what_is_measured_already_is_not_waited_for(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tvqrap.runtime.cores._start", None)
    cores.watch_cores()
    machine.busy = [1, 0, 0, 0]
    machine.sleep(3)
    before = machine.seconds
    assert cores.idle_cores() == 3 and machine.seconds == before


def test_a_busy_machine_is_said_where_threads_are_too_many(machine: Machine) -> None:
    machine.busy = [1, 1, 1, 0]
    assert cores.busy_note(1, "compute.threads") == ""
    assert cores.busy_note(2, "compute.threads") == (
        "the machine is busy: 1 of 4 cores idle, 2 threads asked for, which slow each other down; "
        "compute.threads sets their number"
    )


def test_other_systems_count_as_idle(machine: Machine) -> None:
    machine.statistics.unlink()
    assert cores.idle_cores() == 4
