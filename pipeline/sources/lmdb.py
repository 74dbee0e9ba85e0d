"""Photographs in an LMDB, as BasicSR writes it, and its lists of names (`meta_info`)."""

from pathlib import Path, PurePosixPath

from pipeline.shards.manifest import Skipped
from pipeline.sources.photos import FoundPhotos, Photo, photo_key
from pipeline.sources.scan_table import FileState
from pipeline.storage.content import check_lmdb, lmdb_locator
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.text import printable

_DATA = "data.mdb"
_META_INFO = "meta_info.txt"


def is_lmdb(folder: Path) -> bool:
    """Whether a folder holds an LMDB."""
    return (folder / _DATA).is_file()


def list_lmdb(folder: Path) -> FoundPhotos:
    """Lists the photographs of an LMDB from its `meta_info.txt`; a key is a name without ending.

    Raises UserError where there is no such list, and where the package `lmdb` is missing.
    """
    check_lmdb()
    folder = folder.resolve()
    state = FileState(-1, FileState.of(folder / _DATA).mark)
    photos: dict[str, Photo] = {}
    skipped = []
    for name in listed_names(folder / _META_INFO):
        if name in photos or not PurePosixPath(name).name:
            reason = "its name is there twice" if name in photos else "no name of a photograph"
            skipped.append(Skipped(printable(name), reason))
            continue
        key = str(PurePosixPath(name).with_suffix(""))
        photos[name] = Photo(photo_key(name), name, lmdb_locator(folder, key))
    states = {photo.locator: state for photo in photos.values()}
    return FoundPhotos(list(photos.values()), skipped, "", states)


def listed_names(path: Path) -> list[str]:
    """The names of a `meta_info` file of BasicSR: the first word of each line.

    Raises UserError where it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: not found, expected a list of photographs") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a list of photographs ({error})") from None
    return [words[0].rstrip(",") for line in lines if (words := line.split())]
