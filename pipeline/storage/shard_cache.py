"""A folder of this machine in which its processes keep shards of stores.

Files are named by their SHA-256, so sets that share shards share them here too. Of the processes
that need a shard at once, one fetches it. A training reads each shard of a set once an epoch, in
another order each time. So a cache that is smaller than the set keeps what it has: to make room for
each new shard would remove those that are needed soon. Only shards that nobody has read for a day
make room.
"""

import hashlib
import logging
import math
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pipeline.storage.location import Url
from pipeline.storage.lock import file_lock
from tvqrap.runtime.atomic import atomic_path, is_temporary
from tvqrap.runtime.errors import UserError

UNREAD_SECONDS = 24 * 3600.0
"""A shard that was not read for so long makes room for others."""

log = logging.getLogger(__name__)


class ShardCache:
    """Shards of stores in a folder of limited size, shared by the processes of a machine."""

    def __init__(self, folder: Path, limit: int) -> None:
        """`limit`: bytes of all shards in the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.limit = limit
        self._checked: set[str] = set()
        """Hashes of the files that this process has checked."""

    def read(self, source: Url, sha256: str) -> bytes:
        """The content of a shard, from the folder or from its store.

        Raises `UserError` that names the shard where the store's content has another SHA-256 (hex).
        """
        content = self._kept(sha256)
        if content is not None:
            return content
        with ExitStack() as stack:
            try:
                # A few locks for all shards: a file for each would be left behind.
                lock = self.folder / f"fetch-{sha256[0]}.lock"
                stack.enter_context(file_lock(lock, f"fetching {source}", patience=math.inf))
            except OSError as error:
                self._say_not_kept(error)
                return _fetched(source, sha256)
            content = self._kept(sha256)  # another process may have fetched it meanwhile
            if content is None:
                content = _fetched(source, sha256)
                self._keep(sha256, content)
        return content

    def _path(self, sha256: str) -> Path:
        return self.folder / f"{sha256}.tar"

    def _kept(self, sha256: str) -> bytes | None:
        """The content in the folder; None where it is not there, or damaged."""
        path = self._path(sha256)
        try:
            content = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        if sha256 not in self._checked:
            if hashlib.sha256(content).hexdigest() != sha256:
                log.warning("%s: damaged, fetched again", path)
                path.unlink(missing_ok=True)
                return None
            self._checked.add(sha256)
        return content

    def _keep(self, sha256: str, content: bytes) -> None:
        """Keeps a shard if there is room or can be made."""
        try:
            with file_lock(self.folder / "keep.lock", "keeping a shard", patience=math.inf):
                if not self._has_room(len(content)):
                    return
                with atomic_path(self._path(sha256)) as temporary:
                    temporary.write_bytes(content)
        except OSError as error:
            self._say_not_kept(error)
            return
        self._checked.add(sha256)

    def _say_not_kept(self, error: OSError) -> None:
        log.warning("%s: a shard cannot be kept: %s", self.folder, error)

    def _has_room(self, size: int) -> bool:
        """Whether a shard of this size fits, after the removal of shards that nobody reads."""
        shards = []
        for path in self.folder.iterdir():
            if is_temporary(path.name):  # of a writer that died: this process holds the lock
                path.unlink(missing_ok=True)
            elif path.suffix == ".tar":
                state = path.stat()
                shards.append((state.st_mtime, state.st_size, path))
        room = self.limit - sum(length for _, length, _ in shards)
        unread = time.time() - UNREAD_SECONDS
        for read, length, path in sorted(shards):
            if room >= size or read > unread:
                break
            path.unlink(missing_ok=True)
            room += length
        return room >= size


def _fetched(source: Url, sha256: str) -> bytes:
    """The content in the store. Raises `UserError` where it has another SHA-256."""
    content = source.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise UserError(f"{source}: found SHA-256 {found[:12]}, its manifest says {sha256[:12]}")
    return content


@dataclass(frozen=True)
class CachedUrl(Url):
    """A shard in a store that is read by way of a cache."""

    cache: ShardCache
    sha256: str

    def read_bytes(self) -> bytes:
        """The whole content."""
        return self.cache.read(Url(self.text), self.sha256)
