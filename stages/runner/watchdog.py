"""Ends a process when the process that started it is gone."""

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

import psutil

from tvqrap.runtime.signals import stop_requested

ORPHAN_CHECK_SECONDS = 1.0


def dvc_process() -> psutil.Process | None:
    """The dvc process that started this one, directly or through shells, if there is one."""
    for process in psutil.Process().parents():
        try:
            words = [Path(word).name for word in process.cmdline()[:4]]
        except psutil.Error:
            continue
        if "dvc" in words:
            return process
    return None


def exit_with_parent(process: psutil.Process | None, what: str) -> None:
    """Ends this process by SIGTERM once `process` is gone, whose name in messages is `what`.

    dvc does not end its stages when it is killed: they would run on beside the next `dvc repro`.
    """
    if process is None:
        return

    def watch() -> None:
        with contextlib.suppress(psutil.Error):
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                time.sleep(ORPHAN_CHECK_SECONDS)
        # Batch systems signal all processes at once. A second signal would interrupt the saving
        # that the first one started.
        if not (ending.is_set() or stop_requested()):
            print(f"{what} is gone: stopping", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name=f"watch of {what}").start()


ending = threading.Event()
"""Set once a signal ends this process."""


def exit_on_signal(number: int, frame: object) -> NoReturn:
    """A signal handler: exits with 128 plus the number of the signal."""
    ending.set()
    raise SystemExit(128 + number)
