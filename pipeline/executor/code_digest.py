"""A digest of the code, by which a worker is compared with its driver."""

import functools
import hashlib
import importlib
from pathlib import Path

_PACKAGES = ("tvqrap", "pipeline")


@functools.cache
def code_digest() -> str:
    """SHA-256 (hex) over the Python files of the packages that workers run.

    Computed once per process, so that edits during a run do not change it.
    """
    digest = hashlib.sha256()
    for folder in package_folders():
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{folder.name}/{path.relative_to(folder)}\n".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def package_folders() -> list[Path]:
    """Folders of the packages that workers import."""
    # On a cluster, Ray puts each package into a folder of its own: only the import knows where.
    files = (importlib.import_module(name).__file__ for name in _PACKAGES)
    return [Path(file).parent for file in files if file is not None]
