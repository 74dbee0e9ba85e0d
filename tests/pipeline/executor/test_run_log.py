"""The log of a run: what it tells, in a folder and in a store."""

import json

from pipeline.executor.outcome import Attempt, Failure
from pipeline.executor.run_log import NAMED, run_log
from pipeline.storage.location import Location, Url, file_sizes


def test_a_folder_and_a_store_are_told_the_same(tmp_path, memory: Url) -> None:
    told = []
    for folder in (tmp_path / "logs", memory / "logs"):
        with run_log(folder) as log:
            log.add("000000.tar", Attempt(0, 1, "node", 7, 0.5))
            log.add("000001.tar", Attempt(1, 2, "", 0, 0.0, "worker died", "no more"))
            assert len(lines(folder)) == 2, "a failure is told at once"
            log.add("000002.tar", Attempt(2, 1, "node", 7, 1.5))
        told.append(lines(folder))
    assert told[0] == told[1]
    first = {"shard": "000000.tar", "attempt": 1, "host": "node", "pid": 7, "seconds": 0.5}
    assert told[0][0] == first
    assert (told[0][1]["error"], told[0][1]["traceback"]) == ("worker died", "no more")


def lines(folder: Location) -> list[dict[str, object]]:
    (name,) = file_sizes(folder)
    return [json.loads(line) for line in (folder / name).read_bytes().splitlines()]


def test_few_failures_are_named_and_many_counted(tmp_path) -> None:
    names = [f"{number:06d}.tar" for number in range(20)]
    with run_log(tmp_path) as log:
        failures = [Failure(number, "gone", "") for number in range(2, 2 + NAMED)]
        said = log.failed(failures, names, 20)
        assert said == (
            "5 of 20 shards failed: 000002.tar: gone; 000003.tar: gone; 000004.tar: gone; "
            f"000005.tar: gone; 000006.tar: gone; tracebacks in {log.file}"
        )
        failures += [Failure(number, "gone", "") for number in range(10, 13)]
        assert "000006.tar: gone; and 3 more; tracebacks" in log.failed(failures, names, 20)
