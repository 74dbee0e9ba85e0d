"""Photographs in tar archives, as img2dataset and webdataset write them.

Only headers are read here. A member's name becomes a photograph's name and never a path: its
content is read by its place in the archive.
"""

import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pipeline.shards.manifest import Skipped
from pipeline.sources.photos import FoundPhotos, Photo, photo_key
from pipeline.sources.scan_table import FileState
from pipeline.storage.content import MAX_BYTES, part_locator
from pipeline.storage.location import Location
from tvqrap.images.reading.folder import SUFFIXES, is_passed_over
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.text import printable

_MAX_HEADER = 2**20
"""Bytes of a long name or of extended headers; a hostile archive may claim any number."""


def list_archive(place: Location, state: FileState) -> FoundPhotos:
    """Lists the images of an uncompressed tar archive in the state `state`.

    Members that cannot be used are skipped with a reason: links, names that lead out, content that
    is too large or cut. So are members behind a damaged header.
    """
    listing = _Listing(place, state)
    try:
        with _opened(place) as file:
            listing.read(file)
    except FileNotFoundError:
        raise UserError(f"data.photos: {place}: not found, expected a tar archive") from None
    return listing.found()


class _Headers:
    """A file that refuses to read much at once, since only headers are read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)


class _Listing:
    def __init__(self, place: Location, state: FileState) -> None:
        self._place = place
        self._size = state.size
        self._mark = state.mark
        self._photos: dict[str, Photo] = {}
        self._states: dict[str, FileState] = {}
        self._skipped: list[Skipped] = []
        self._others: Counter[str] = Counter()
        self._members = 0

    def read(self, file: BinaryIO) -> None:
        """Reads all headers. Errors of the storage pass."""
        try:
            with tarfile.open(  # type: ignore[call-overload]
                fileobj=_Headers(file), mode="r:", encoding="utf-8"
            ) as tar:
                for member in tar:
                    tar.members = []  # it would keep all of them
                    self._members += 1
                    self._add(member)
                    # A size below zero would lead back, and list the same members for ever.
                    if not member.offset < tar.offset <= self._size:
                        raise tarfile.ReadError("unexpected end of data")
                # tarfile takes a damaged header, and an end between two members, for the end mark.
                file.seek(tar.offset)
                rest = file.read(_MAX_HEADER)
                if len(rest) < tarfile.BLOCKSIZE:
                    raise tarfile.ReadError("no end mark")
                if rest.strip(b"\0"):
                    raise tarfile.ReadError("a damaged header, or another archive behind this one")
        except OSError:
            raise
        except Exception as error:  # tarfile raises many kinds for a damaged or hostile file
            self._skip(
                str(self._place),
                f"the archive is damaged after {self._members} members "
                f"({printable(str(error)) or type(error).__name__})",
            )

    def found(self) -> FoundPhotos:
        """The listing."""
        others = ", ".join(f"{count} {ending}" for ending, count in sorted(self._others.items()))
        return FoundPhotos(
            list(self._photos.values()),
            self._skipped,
            printable(f"passed over in archives: {others}") if others else "",
            self._states,
        )

    def _add(self, member: tarfile.TarInfo) -> None:
        name = member.name.removeprefix("./")
        path = PurePosixPath(name)
        suffix = path.suffix.lower()
        if member.isdir():
            return
        named = [part for part in path.parts if part != ".."]
        if suffix not in SUFFIXES or any(map(is_passed_over, named)):
            self._others[suffix or "without ending"] += 1
        elif reason := self._reason(member, name):
            self._skip(name, reason)
        else:
            locator = part_locator(str(self._place), member.offset_data, member.size)
            self._photos[name] = Photo(photo_key(name), name, locator)
            self._states[locator] = FileState(member.size, self._mark)

    def _reason(self, member: tarfile.TarInfo, name: str) -> str:
        """Why an image of the archive cannot be used; empty for one that can."""
        if not member.isreg() or member.issparse():
            return "a link or another special member of an archive"
        if name.startswith("/") or ".." in name.split("/"):
            return "its name leads out of the archive"
        if name in self._photos:
            return "its name is there twice"
        if member.size > MAX_BYTES:
            return f"{member.size} bytes, at most {MAX_BYTES} are read"
        if not 0 <= member.size <= self._size - member.offset_data:
            return "the archive is cut before its end"
        return ""

    def _skip(self, name: str, reason: str) -> None:
        self._skipped.append(Skipped(printable(name), reason))


@contextmanager
def _opened(place: Location) -> Iterator[BinaryIO]:
    if isinstance(place, Path):
        with place.open("rb") as file:
            yield file
    else:
        with place.stream() as file:
            yield file
