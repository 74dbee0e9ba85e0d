"""The ledger: which shards count as finished, and which files it may remove."""

import errno
import hashlib
import json
import os
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.executor import intact
from pipeline.executor.ledger import EarlierRuns, Ledger
from pipeline.executor.run import ExecutorKind
from pipeline.executor.shards import make_missing
from pipeline.shards.manifest import ShardRow
from pipeline.shards.tar import Sample, write_shard
from pipeline.storage.location import Location, Url
from tvqrap.runtime.errors import UserError

PLANS = {f"{n:06d}.tar": f"{n:064d}" for n in range(3)}


@dataclass(frozen=True)
class Made:
    row: ShardRow
    machine: str


def made(out: Location, name: str, machine: str = "here") -> Made:
    """A shard that is written, as a worker does, but not recorded."""
    row = write_shard(out / name, [Sample(f"p_{name[:6]}", {"json": b"{}"})])
    return Made(replace(row, plan=PLANS[name]), machine)


def ledger(root: Path, plans: dict[str, str] = PLANS) -> Ledger[Made]:
    return Ledger(root, "set", plans, Made)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    first = ledger(tmp_path)
    for name in PLANS:
        first.record(made(tmp_path / "set", name))
    return tmp_path


def test_a_later_run_finds_the_finished_shards(finished: Path) -> None:
    again = ledger(finished)
    assert not again.missing
    assert [shard.row.name for shard in again.shards] == list(PLANS)


def test_a_record_of_another_plan_or_a_changed_shard_does_not_count(finished: Path) -> None:
    (finished / "set/000000.tar").write_bytes(b"changed")
    again = ledger(finished, PLANS | {"000001.tar": "f" * 64})
    assert again.missing == ["000000.tar", "000001.tar"]
    assert [path.name for path in (finished / "set").iterdir()] == ["000002.tar"]
    assert [path.name for path in (finished / "rows/set").glob("*.json")] == ["000002.tar.json"]


@pytest.mark.slow
def test_many_shards_are_hashed_on_the_executor(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes stand for the nodes of a cluster."""
    run = intact.run_tasks
    chunks: list[int] = []

    def in_processes(worker: Any, tasks: Any, **options: Any) -> Any:
        assert options.pop("executor") == "ray"
        chunks.append(len(tasks))
        return run(worker, tasks, executor="processes", **options)

    monkeypatch.setattr(intact, "run_tasks", in_processes)
    monkeypatch.setattr(intact, "SPREAD_BYTES", 1)
    monkeypatch.setattr(intact, "CHUNK_BYTES", 1)
    (finished / "set/000001.tar").write_bytes(bytes(10240))
    again = Ledger(finished, "set", PLANS, Made, executor="ray", workers=2)
    assert again.missing == ["000001.tar"] and chunks == [3]


def signed(text: str) -> str:
    """A record of this text, with the SHA-256 that makes it count."""
    return f"{text}\n{hashlib.sha256(text.encode()).hexdigest()}\n"


def test_a_record_with_another_number_in_it_does_not_count(finished: Path) -> None:
    path = finished / "rows/set/000001.tar.json"
    record = path.read_text()
    assert '"machine":"here"' in record
    path.write_text(record.replace('"machine":"here"', '"machine":"hero"'))
    assert ledger(finished).missing == ["000001.tar"]


@pytest.mark.parametrize(
    "text",
    ["", "null", "5", "[" * 100_000, '{"row": {"name": 5}, "machine": "here"}'],
    ids=["empty", "null", "number", "deep", "name"],
)
def test_a_damaged_record_does_not_count(finished: Path, text: str) -> None:
    for content in (text, signed(text)):
        (finished / "rows/set/000001.tar.json").write_text(content)
        assert ledger(finished).missing == ["000001.tar"]


def test_a_record_of_another_shard_does_not_count(finished: Path) -> None:
    record = (finished / "rows/set/000000.tar.json").read_text()
    other = json.loads(record.splitlines()[0])
    other["row"]["name"] = "../victim.tar"
    (finished / "rows/set/000000.tar.json").write_text(signed(json.dumps(other)))
    (finished / "rows/set/000001.tar.json").write_text(record)
    assert ledger(finished).missing == ["000000.tar", "000001.tar"]


def test_only_shards_records_and_temporary_files_are_swept(finished: Path) -> None:
    for name in ("000009.tar", ".tvqrap.00000000.99.00000000.tmp", "manifest.json"):
        (finished / "set" / name).write_text("left by an earlier run")
    for name in ("thesis.docx", "0.tar", "photographs.tar", "notes.json"):
        (finished / "set" / name).write_text("someone's")
        (finished / "rows/set" / name).write_text("someone's")
    ledger(finished)
    found = {path.name for path in (finished / "set").iterdir()}
    assert found == {*PLANS, "thesis.docx", "0.tar", "photographs.tar", "notes.json"}
    kept = {path.name for path in (finished / "rows/set").iterdir()} - {"code"}
    assert kept == {f"{n}.json" for n in PLANS} | found - set(PLANS)


def test_shards_of_two_kinds_of_machines_do_not_mix(finished: Path) -> None:
    (finished / "set/000002.tar").unlink()
    again = ledger(finished)
    with pytest.raises(UserError, match=r"2\.tar: made on elsewhere, the finished .* on here;"):
        again.add(made(finished / "set", "000002.tar", "elsewhere"))
    assert again.missing == ["000002.tar"], "shards of the earlier run stay"
    assert again.drop_earlier() and again.missing == list(PLANS)
    again.add(made(finished / "set", "000002.tar", "elsewhere"))
    with pytest.raises(UserError, match=r"1\.tar: made on here, the finished .* on elsewhere;"):
        again.add(made(finished / "set", "000001.tar"))
    assert not again.drop_earlier() and again.missing == ["000000.tar", "000001.tar"]


def fitted(log: Path, odd: int) -> tuple[str, Callable[[str], Made]]:
    """A worker; the first `odd` of them are on other machines."""
    number = len(list(log.glob("worker*")))
    (log / f"worker{number}{uuid.uuid4().hex}").touch()
    machine = "elsewhere" if number < odd else "here"
    return machine, lambda name: made(log / "set", name, machine)


def test_a_worker_on_another_machine_makes_no_shard_and_costs_none(
    finished: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be the first to make one: shards of an earlier run would be made again."""
    for name in ("000000.tar", "000001.tar"):
        (finished / f"rows/set/{name}.json").unlink()
    kept = finished / "set/000002.tar"
    written = kept.stat().st_mtime_ns
    again = ledger(finished)
    make(again, partial(fitted, finished, 1), executor="processes")
    assert [shard.machine for shard in again.shards] == ["here"] * 3
    assert kept.stat().st_mtime_ns == written
    assert "makes shards on elsewhere, the finished shards on here" in caplog.text


def test_where_no_worker_is_of_their_kind_shards_of_an_earlier_run_are_made_again(
    finished: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (finished / "rows/set/000002.tar.json").unlink()
    again = ledger(finished)
    make(again, partial(fitted, finished, 9), executor="serial")
    assert [shard.machine for shard in again.shards] == ["elsewhere"] * 3
    assert "2 shards of an earlier run were made on here, and no worker is" in caplog.text


def make(
    ledger: Ledger[Made],
    worker: Callable[[], tuple[str, Callable[[str], Made]]],
    executor: ExecutorKind,
) -> None:
    make_missing(
        ledger,
        worker,
        dict(zip(PLANS, PLANS, strict=True)),
        what="the set",
        logs=ledger.out.parent / "logs",
        executor=executor,
        workers=2,
        check=lambda: None,
        on_shard=lambda name: None,
    )


def test_a_worker_that_was_dropped_leaves_its_shard_and_most_others_stay(finished: Path) -> None:
    """Workers write records before the driver compares their machines, and it may die first."""
    ledger(finished).record(made(finished / "set", "000000.tar", "elsewhere"))
    assert ledger(finished).missing == ["000000.tar"]


def test_shards_of_earlier_runs_are_taken_over_by_plan(finished: Path) -> None:
    """Under another name too; not those of another plan, and not damaged ones."""
    (finished / "set/000001.tar").write_bytes(b"damaged")
    plans = {f"{n:06d}.tar": plan for n, plan in enumerate([*reversed(PLANS.values()), "f" * 64])}
    earlier = EarlierRuns(folders=(finished / "nothing here", finished))
    taken = Ledger(finished / "new", "set", plans, Made, earlier)
    assert taken.taken_over == 2
    assert taken.missing == ["000001.tar", "000003.tar"]
    for name, before in (("000000.tar", "000002.tar"), ("000002.tar", "000000.tar")):
        assert taken.done[name].row.name == name
        new = finished / "new/set" / name
        assert new.samefile(finished / "set" / before), "a link takes no space"
    again = Ledger(finished / "new", "set", plans, Made)
    assert (again.done, again.taken_over) == (taken.done, 0)


def test_shards_of_other_code_or_machines_are_not_taken_over(finished: Path) -> None:
    def taken_over(root: str, earlier: EarlierRuns) -> int:
        return Ledger(finished / root, "set", PLANS, Made, earlier).taken_over

    assert taken_over("a", EarlierRuns("other code", (finished,))) == 0
    assert taken_over("b", EarlierRuns("", (finished,))) == 3
    mixed = Ledger(finished / "c", "set", PLANS, Made)
    mixed.record(made(finished / "c/set", "000001.tar", "elsewhere"))
    assert taken_over("c", EarlierRuns("", (finished,))) == 0
    assert taken_over("d", EarlierRuns("", (finished / "c", finished))) == 1


def test_shards_of_an_earlier_run_are_copied_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store takes seconds for each."""
    root = Url(f"memory://{uuid.uuid4().hex}")
    first = Ledger(root / "old", "set", PLANS, Made)
    for name in PLANS:
        first.record(made(root / "old/set", name))
    together = threading.Barrier(len(PLANS), timeout=30)
    copy = Url.copy_to

    def copy_together(url: Url, other: Url) -> None:
        if url.name.endswith(".tar"):
            together.wait()
        copy(url, other)

    monkeypatch.setattr(Url, "copy_to", copy_together)
    new = Ledger(root / "new", "set", PLANS, Made, EarlierRuns("", (root / "old",)))
    assert new.taken_over == 3 and not new.missing


def test_a_finished_shard_that_is_gone_at_the_end_is_an_error(finished: Path) -> None:
    done = ledger(finished)
    done.check_there()
    (finished / "set/000001.tar").unlink()
    with pytest.raises(
        UserError, match=r"000001\.tar: found nothing, expected .*; 1 of 3 finished"
    ):
        done.check_there()
    assert ledger(finished).missing == ["000001.tar"]


def test_records_of_other_code_do_not_count(finished: Path) -> None:
    again = Ledger(finished, "set", PLANS, Made, EarlierRuns("other code"))
    assert again.missing == list(PLANS)


def test_a_shard_that_the_set_does_not_take_is_made_again(finished: Path) -> None:
    earlier = EarlierRuns("", (finished,))
    new = Ledger(
        finished / "new", "set", PLANS, Made, earlier, take=lambda shard: shard.row.name[5] != "1"
    )
    assert new.missing == ["000001.tar"]


@pytest.mark.parametrize("elsewhere", [False, True], ids=["store", "another disk"])
def test_shards_are_copied_where_links_are_not_possible(
    elsewhere: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root: Location = tmp_path if elsewhere else Url(f"memory://{uuid.uuid4().hex}")
    first = Ledger(root / "old", "set", PLANS, Made)
    for name in PLANS:
        first.record(made(root / "old/set", name))

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(Path, "hardlink_to", refused)
    new = Ledger(root / "new", "set", PLANS, Made, EarlierRuns("", (root / "old",)))
    assert new.taken_over == 3
    for name in PLANS:
        assert (root / "new/set" / name).read_bytes() == (root / "old/set" / name).read_bytes()
