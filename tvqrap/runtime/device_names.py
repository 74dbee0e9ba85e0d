"""Names of devices, checked without torch."""

import re

DEVICE_PATTERN = r"^(auto|cpu|mps|(cuda|xpu)(:\d+)?)$"
DEVICE_WORDS = "auto, cpu, cuda, cuda:1, mps or xpu"


def check_device_name(name: str) -> str:
    """Returns the name. Raises ValueError for other words; the device need not exist here."""
    if not re.fullmatch(DEVICE_PATTERN, name):
        raise ValueError(f"device is {name!r}, expected {DEVICE_WORDS}")
    return name
