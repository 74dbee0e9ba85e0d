import os
import subprocess
import sys

from tvqrap.runtime.hardware import idle_cores


def test_idle_cores_are_some_of_those_that_the_process_may_use() -> None:
    assert 1 <= idle_cores() <= len(os.sched_getaffinity(0))


def test_a_core_that_another_process_occupies_is_not_idle() -> None:
    core = min(os.sched_getaffinity(0))
    command = f"import os; os.sched_setaffinity(0, [{core}]); print(flush=True)\nwhile True: pass"
    busy = subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE)
    try:
        assert busy.stdout is not None
        busy.stdout.readline()
        assert idle_cores(0.3) <= max(1, len(os.sched_getaffinity(0)) - 1)
    finally:
        busy.kill()
        busy.communicate()
