"""The photographs of the page: a queue, one worker, and their temporary files."""

import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tvqrap.pretrained.models import Model
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.text import printable
from tvqrap.ui.comparison import COMPARED, write_comparison
from tvqrap.upscaling.files import FileUpscaler, Outcome, Task
from tvqrap.upscaling.jobs import Output
from tvqrap.upscaling.record import made_by
from tvqrap.upscaling.settings import Colour, OutputSettings
from tvqrap.upscaling.upscaler import Upscaler

LARGEST_TOTAL = 10 * 2**30
"""Bytes of all temporary files; less where less than twice of it is free on the disk."""
MOST_PHOTOS = 1000
_LONGEST_NAME, _LONGEST_ENDING = 180, 12
"""Bytes of a photograph's name, and of its ending, that are kept."""

Status = Literal["waiting", "running", "done", "failed"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """The choices of the user for a photograph."""

    model: Model
    model_name: str
    settings: OutputSettings
    colour: Colour


@dataclass
class Photo:
    """A photograph in the queue, or behind it."""

    id: str
    name: str
    """As the browser calls it, with the folders of a folder that was chosen."""
    folder: Path
    """Holds a folder with its file, and later its output and what the page compares."""
    choice: Choice
    files: FileUpscaler
    task: Task
    status: Status = "waiting"
    done: int = 0
    """LR pixels."""
    began: float = 0.0
    ended: float = 0.0
    """Seconds of the monotonic clock."""
    message: str = ""
    """Why it failed."""
    notes: tuple[str, ...] = ()
    size: int | None = None
    """Bytes of its output, when it is done."""
    compared: bool = False
    """Whether there are pictures to compare."""
    removed: bool = False

    @property
    def target(self) -> Path:
        return self.task.job.target

    def described(self) -> dict[str, Any]:
        """The state of the photograph, for the page."""
        seconds = (self.ended or time.monotonic()) - self.began if self.began else 0.0
        return {
            "id": self.id,
            "name": self.name,
            "status": self.status,
            "progress": self.done / self.task.pixels,
            "seconds": round(seconds, 1),
            "from": self.task.lr_size,
            "to": self.task.size,
            "images": self.task.images,
            "model": self.choice.model_name,
            "file": self.target.name,
            "bytes": self.size,
            "message": self.message,
            "notes": self.notes,
            "compared": self.compared,
        }


class _Cancelled(BaseException):
    """The photograph that is being upscaled was removed."""


class Work:
    """Upscales one photograph at a time, as `tvqrap-cli upscale` does. Thread-safe."""

    def __init__(
        self,
        folder: Path,
        load: Callable[[Model, Colour], Upscaler],
        tile: int | None = None,
        largest_total: int = LARGEST_TOTAL,
    ) -> None:
        """Takes a folder for temporary files, and the function that loads an upscaler.

        `tile` is what the function gives the upscaler; outputs record it.
        """
        self.folder = folder
        self.largest_total = min(largest_total, shutil.disk_usage(folder).free // 2)
        self._load = load
        self._tile = tile
        self._loaded: tuple[Model, Colour, Upscaler] | None = None
        self._photos: dict[str, Photo] = {}
        self._reserved = 0
        self._closed = False
        self._changed = threading.Condition()
        self._worker = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        self._worker.start()

    def close(self, timeout: float) -> bool:
        """Cancels everything; returns whether the worker ended within `timeout` seconds."""
        with self._changed:
            self._closed = True
            for photo in self._photos.values():
                photo.removed = True
            self._changed.notify_all()
        self._worker.join(timeout)
        return not self._worker.is_alive()

    def photos(self) -> list[Photo]:
        """All photographs in the order in which they came."""
        with self._changed:
            return list(self._photos.values())

    def photo(self, photo_id: str) -> Photo | None:
        with self._changed:
            return self._photos.get(photo_id)

    def remove(self, photo_id: str) -> bool:
        """Cancels a photograph if need be, and removes it with its files."""
        with self._changed:
            photo = self._photos.pop(photo_id, None)
            if photo is None:
                return False
            photo.removed = True
            running = photo.status == "running"
        if not running:  # otherwise the worker does it
            shutil.rmtree(photo.folder, ignore_errors=True)
        return True

    @contextmanager
    def receiving(self, name: str, size: int) -> Iterator[Path]:
        """Yields the path to write a photograph's file of `size` bytes to, alone in a new folder.

        The folders are removed if anything is raised. Raises UserError where there is no room.
        """
        with self._changed:
            if len(self._photos) >= MOST_PHOTOS:
                raise UserError(f"{MOST_PHOTOS} photographs are here already; remove some")
            self._check_room(name, size)
            self._reserved += size
        folder = self.folder / secrets.token_hex(8)
        # The file's name is the user's, and may be that of an output or of a picture to compare.
        own = folder / "photograph"
        try:
            folder.mkdir()
            own.mkdir()
            yield own / _file_name(name)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            with self._changed:
                self._reserved -= size

    def add(self, source: Path, name: str, choice: Choice) -> Photo:
        """Queues a photograph whose file is in a folder of `receiving`.

        Raises UserError where it is no photograph, or its output is impossible; ValueError where a
        setting has no meaning for the output's format.
        """
        settings, folder = choice.settings, source.parent.parent
        output = Output(folder / "output", True, settings.suffix, settings.form)
        job = output.job(source, Path(source.name))
        settings.check_used({job.form})
        made = made_by(choice.model.fingerprint, choice.colour, "float32", tile=self._tile)
        files = FileUpscaler(settings, made, overwrite=True)
        checked = files.check(job)
        if isinstance(checked, Outcome):
            raise UserError(_said(checked.message, source, name))
        photo = Photo(folder.name, name, folder, choice, files, checked)
        with self._changed:
            self._photos[photo.id] = photo
            self._changed.notify_all()
        return photo

    def again(self, photo: Photo, choice: Choice) -> Photo:
        """Queues a photograph once more, by another choice. Raises as `receiving` and `add` do."""
        source = photo.task.job.source
        with self.receiving(photo.name, source.stat().st_size) as path:
            try:
                os.link(source, path)
            except OSError:  # a disk without hard links
                shutil.copyfile(source, path)
            return self.add(path, photo.name, choice)

    def _check_room(self, name: str, size: int) -> None:
        files = (path for path in self.folder.rglob("*") if path.is_file())
        free = self.largest_total - self._reserved - sum(path.stat().st_size for path in files)
        if size > free:
            raise UserError(
                f"{name}: needs up to {size / 2**30:.1f} GB of temporary files, "
                f"{max(0, free) / 2**30:.1f} GB are left; remove photographs from the page"
            )

    def _work(self) -> None:
        while (photo := self._next()) is not None:
            try:
                self._upscale(photo)
            except _Cancelled:
                pass
            except UserError as error:
                photo.message, photo.status = str(error), "failed"
            except Exception as error:  # one photograph's oddity is not the others' end
                _log.exception("%s", photo.name)
                photo.message = f"{photo.name}: {type(error).__name__}"
                photo.status = "failed"
            photo.ended = time.monotonic()
            with self._changed:
                if photo.removed:
                    shutil.rmtree(photo.folder, ignore_errors=True)

    def _next(self) -> Photo | None:
        """The next photograph, marked as running, when there is one; None at the end."""
        with self._changed:
            while not self._closed:
                for photo in self._photos.values():
                    if photo.status == "waiting":
                        photo.status, photo.began = "running", time.monotonic()
                        return photo
                self._changed.wait()
        return None

    def _upscale(self, photo: Photo) -> None:
        def advance(pixels: int) -> None:
            if photo.removed:
                raise _Cancelled
            photo.done += pixels

        width, height = photo.task.size
        compared = width * height <= COMPARED
        with self._changed:
            needed = (8 * photo.task.images + 3 * compared) * width * height
            self._check_room(photo.name, needed)
        upscaler = self._upscaler(photo.choice)
        advance(0)
        outcome = photo.files.run(photo.task, upscaler, advance)
        source = photo.task.job.source
        photo.notes = tuple(_said(note, source, photo.name) for note in outcome.notes)
        if outcome.status == "failed":
            raise UserError(_said(outcome.message, source, photo.name))
        if compared:
            try:
                write_comparison(photo.folder, source, photo.target, photo.task.size)
                photo.compared = True
            except Exception:  # the output is there, and more important
                _log.exception("%s: cannot be compared", photo.name)
        photo.size, photo.done = photo.target.stat().st_size, photo.task.pixels
        photo.status = "done"

    def _upscaler(self, choice: Choice) -> Upscaler:
        """The upscaler of a choice; one is held at a time."""
        if self._loaded is None or self._loaded[:2] != (choice.model, choice.colour):
            self._loaded = None
            self._loaded = choice.model, choice.colour, self._load(choice.model, choice.colour)
        return self._loaded[2]


def _file_name(name: str) -> str:
    """The last part of a name as that of a file: no separators, and not long."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    path = Path(last.lstrip(".").strip() or "photograph")
    return _cut(path.stem, _LONGEST_NAME) + _cut(path.suffix, _LONGEST_ENDING)


def _cut(text: str, size: int) -> str:
    return text.encode(errors="replace")[:size].decode(errors="ignore")


def _said(message: str, source: Path, name: str) -> str:
    """A message with the name that the user knows."""
    folder = source.parent.parent
    return message.replace(printable(source), name).replace(f"{folder}{os.sep}", "")
