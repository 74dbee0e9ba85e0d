"""The code that workers run, held against the driver's."""

import functools
import hashlib
import importlib
from pathlib import Path

_PACKAGES = ("tvqrap", "pipeline")


@functools.cache
def code_digest() -> str:
    """SHA-256 over the Python files of the packages that workers run, as this process met them.

    Read once: a run goes on with the code that it began with, whatever is edited meanwhile.
    """
    digest = hashlib.sha256()
    for folder in package_folders():
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{folder.name}/{path.relative_to(folder)}\n".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def package_folders() -> list[Path]:
    """Folders of the packages that workers import."""
    # By import: on a cluster, each package that was shipped lies in a folder of its own.
    files = (importlib.import_module(name).__file__ for name in _PACKAGES)
    return [Path(file).parent for file in files if file is not None]
