"""The most memory that this process has had since a moment of one's choice, on Linux.

`getrusage` cannot say that: its peak is of the process since its start, and a process that was
started by a larger one begins with that one's.
"""

from pathlib import Path

_RESET = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_PEAK_ALONE = "5"
"""What the kernel takes for: begin the peak of the resident memory anew."""


class PeakUnknownError(Exception):
    """The system does not tell; the message says what it refused."""


def begin_peak() -> int:
    """Begins the peak anew; the bytes that are resident now. Raises PeakUnknownError."""
    try:
        _RESET.write_text(_PEAK_ALONE)
    except OSError as error:
        raise PeakUnknownError(f"{_RESET} cannot be written ({error.strerror})") from None
    return peak_bytes()


def peak_bytes() -> int:
    """Bytes that were resident at most since `begin_peak`. Raises PeakUnknownError."""
    try:
        lines = _STATUS.read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
    except (OSError, StopIteration) as error:
        raise PeakUnknownError(f"{_STATUS} has no VmHWM ({type(error).__name__})") from None
