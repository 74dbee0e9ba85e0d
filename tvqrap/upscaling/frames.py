"""Upscaling all frames or pages of a file."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from tvqrap.photo_io.formats import Format
from tvqrap.photo_io.metadata import signed
from tvqrap.photo_io.photo import Photo, Pixels, enlarged_rows
from tvqrap.photo_io.reader import SeveralPhotos
from tvqrap.photo_io.writer import Page, write_frames, write_pages
from tvqrap.upscaling.settings import OutputSettings
from tvqrap.upscaling.upscaler import Advance, Upscaler


def write_several(
    file: BinaryIO,
    form: Format,
    read: SeveralPhotos,
    upscaler: Upscaler,
    settings: OutputSettings,
    record: str,
    advance: Advance | None,
    scratch: Path | None,
) -> list[str]:
    """Upscales frames or pages into a file that can be read too.

    Frames share their tiles and the statistics of normalisation; pages are upscaled as photographs
    of their own. `record` is the line that names the model and settings, and `scratch` the folder
    for temporary files, if it is not the system's. Returns the names of metadata that is left out.
    Raises ValueError as `Upscaler.rows` does.
    """
    network = None
    if read.animation is not None:
        network = upscaler.network_for([one.photo.pixels for one in read.files])
    upscale = partial(upscaler.rows, advance=advance, network=network)

    def size_of(photo: Photo) -> tuple[int, int]:
        return settings.enlarged(photo.pixels.shape[1], photo.pixels.shape[0])

    def rows_of(photo: Photo) -> Iterator[Pixels]:
        return enlarged_rows(photo, upscale, size_of(photo))

    if read.animation is None or form.several == "pages":
        pages = (
            Page(rows_of(one.photo), size_of(one.photo), signed(one.metadata, record))
            for one in read.files
        )
        lost = write_pages(file, pages, compression=settings.compression)
        return lost if read.animation is None else [*lost, "durations of frames"]
    first = read.files[0]
    return write_frames(
        file,
        form,
        (rows_of(one.photo) for one in read.files),
        size_of(first.photo),
        signed(first.metadata, record),
        read.animation,
        quality=settings.quality,
        lossless=settings.lossless,
        compression=settings.compression,
        scratch=scratch,
    )
