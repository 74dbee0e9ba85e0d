"""Puts finished work at its place in the checkout, whole and in one step.

The scratch folder keeps its own copy until the stage ends. A stage that is killed while it
publishes finds all of its work again.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipeline.shards.manifest import COMPANIONS, MANIFEST, Manifest, is_intact
from pipeline.storage.location import Location, file_sizes, location
from tvqrap.runtime.atomic import write_atomic
from tvqrap.runtime.errors import UserError


def publish(source: Path, out: Path) -> None:
    """Replaces `out` by the file or folder `source`, which stays where it is."""
    with _replacement(out) as partial:
        _link_or_copy(source, partial)


def publish_sets(folders: Iterable[Path], out: Path, texts: Mapping[str, str]) -> None:
    """Replaces `out` by a folder that holds `folders`, sets of shards, and text files by name.

    Raises `UserError` where a shard is missing or not what its manifest lists.
    """
    with _replacement(out) as partial:
        partial.mkdir()
        for name, text in texts.items():
            write_atomic(partial / name, text)
        for folder in folders:
            _place_set(folder, partial / folder.name)


def partial_path(out: Path) -> Path:
    """Path at which the replacement of `out` is put together: beside it, on the same file
    system."""
    return out.with_name(f".{out.name}.partial")


def remove(path: Path) -> None:
    """Removes a file, a folder with all that is in it, or a link; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _replacement(out: Path) -> Iterator[Path]:
    """Yields a path to fill, which takes the place of `out` unless anything was raised."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(out)
    remove(partial)
    try:
        yield partial
        remove(out)
        partial.replace(out)
    finally:
        remove(partial)


def _link_or_copy(source: Path, target: Path) -> bool:
    """Gives `target` the content of `source`; whether any file had to be copied.

    Files become hard links, which take no space, where the file system has them.
    """
    if source.is_dir():
        target.mkdir()
        copied = [_link_or_copy(entry, target / entry.name) for entry in source.iterdir()]
        return any(copied)
    try:
        target.hardlink_to(source)
        return False
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
        return True


def _place_set(source: Path, target: Path) -> None:
    """Gives `target` the manifest of a set, the files beside it, and shards that lie with them.

    Raises `UserError` where they are not as the manifest says.
    """
    manifest = Manifest.load(source)
    target.mkdir()
    for name in (MANIFEST, *COMPANIONS):
        if (source / name).is_file():
            _link_or_copy(source / name, target / name)
    if manifest.location is not None:
        _check_stored(manifest, location(manifest.location))
        return
    copied = {}
    for row in manifest.shards:
        if not (source / row.name).is_file():
            raise UserError(f"{source / row.name}: missing, expected the shard of a finished set")
        copied[row.name] = _link_or_copy(source / row.name, target / row.name)
    sizes = file_sizes(target)
    for row in manifest.shards:
        path = target / row.name
        if not (is_intact(path, row, sizes) if copied[row.name] else sizes[row.name] == row.bytes):
            raise UserError(
                f"{path}: found other bytes than its manifest lists, expected SHA-256 {row.sha256}"
            )


def _check_stored(manifest: Manifest, storage: Location) -> None:
    """Raises `UserError` where the set is no longer in its storage."""
    found = Manifest.load(storage).root
    if found != manifest.root:
        raise UserError(
            f"{storage}: found a set with root {found[:12]}, expected {manifest.root[:12]}, which "
            "this run made there; the same command makes it again"
        )
