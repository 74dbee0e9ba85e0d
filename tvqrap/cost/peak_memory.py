"""Peak memory of this process since a chosen moment, on Linux.

The peak of `getrusage` cannot be reset, and a process inherits that of the process that started it.
"""

from pathlib import Path

RESET = Path("/proc/self/clear_refs")
"""The file that resets the peak."""
_STATUS = Path("/proc/self/status")
_PEAK_ALONE = "5"
"""The value that makes the kernel reset the peak of the resident memory."""


class PeakUnknownError(Exception):
    """The system does not report the peak; the message names the refused access."""


def begin_peak() -> int:
    """Resets the peak and returns the resident bytes. Raises PeakUnknownError."""
    try:
        RESET.write_text(_PEAK_ALONE)
    except OSError as error:
        raise PeakUnknownError(f"{RESET} cannot be written ({error.strerror})") from None
    return peak_bytes()


def peak_bytes() -> int:
    """Peak of the resident bytes since `begin_peak`. Raises PeakUnknownError."""
    try:
        lines = _STATUS.read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
    except (OSError, StopIteration) as error:
        raise PeakUnknownError(f"{_STATUS} has no VmHWM ({type(error).__name__})") from None
