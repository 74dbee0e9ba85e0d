"""Photographs of one or several sources: folders, archives, object stores, LMDBs, patterns.

A source lists its photographs with locators, from which workers read them without the source.
Names are relative to the source, so that an archive of a folder gives the keys of the folder.
"""

import glob
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pydantic import TypeAdapter
from ruamel.yaml import YAML, YAMLError

from pipeline.config import Name
from pipeline.shards.manifest import Skipped, first_line
from pipeline.sources.archive import list_archive
from pipeline.sources.lmdb import is_lmdb, list_lmdb, listed_names
from pipeline.sources.photos import FoundPhotos, Photo, discover, is_text, photo_key
from pipeline.sources.scan_table import FileState
from pipeline.storage.content import MAX_BYTES
from pipeline.storage.location import Location, Url, fixed_part, location
from tvqrap.config.base import Settings
from tvqrap.images.reading.folder import BROKEN, SPECIAL, SUFFIXES, is_passed_over
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.text import printable

_LISTS = (".yaml", ".yml")
_COMPRESSED = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip", ".7z")


class PhotoSource(Settings):
    """An entry of a list of sources."""

    photos: str
    """A folder, tar archive, LMDB or image, a pattern of them, or the URL of any."""
    name: Name | None = None
    """Put before the names of its photographs, where they are those of another source."""
    meta_info: str | None = None
    """A text file with a photograph's name at the start of each line; others are left out."""


_ENTRIES = TypeAdapter(list[str | PhotoSource])


def find_photos(photos: str) -> FoundPhotos:
    """Lists the photographs of a source, or of those that a YAML file lists.

    Raises UserError where a source is missing, and where two have a photograph of the same name.
    """
    place = Path(photos)
    if place.suffix.lower() in _LISTS:
        found = _merged([_of_entry(entry) for entry in _read_list(place)])
    elif place.is_dir() and not is_lmdb(place):
        found = discover(place.resolve())  # without locators, which take memory
    else:
        found = _of_place(photos)
    found = _in_text(found)
    _check_keys(photos, found.photos)
    return found


def _read_list(path: Path) -> list[PhotoSource]:
    try:
        document = YAML(typ="safe", pure=True).load(path.read_bytes())
        entries = _ENTRIES.validate_python(document)
    except FileNotFoundError:
        raise UserError(f"{path}: not found, expected a list of sources of photographs") from None
    except (OSError, ValueError, RecursionError, YAMLError) as error:
        reason = first_line(error) if isinstance(error, ValueError) else str(error).split("\n")[0]
        raise UserError(f"{path}: not a list of sources of photographs ({reason})") from None
    return [PhotoSource(photos=each) if isinstance(each, str) else each for each in entries]


def _of_entry(entry: PhotoSource) -> FoundPhotos:
    found = _of_place(entry.photos)
    if entry.meta_info is not None:
        found = _named(found, listed_names(Path(entry.meta_info)))
    return found if entry.name is None else _prefixed(found, f"{entry.name}/")


def _of_place(text: str) -> FoundPhotos:
    place = location(text)
    if isinstance(place, Url):
        return _of_url(place)
    if glob.has_magic(text) and not place.exists():
        base = Path(fixed_part(str(place)) or place.anchor)
        try:
            paths = sorted(base.glob(str(place.relative_to(base))))
        except ValueError as error:
            raise UserError(f"data.photos: {printable(text)}: {first_line(error)}") from None
        names = ((path, path.relative_to(base)) for path in paths)
        matches = [
            _of_path(path, name.as_posix())
            for path, name in names
            if not any(map(is_passed_over, name.parts))
        ]
        if not matches:
            raise UserError(f"data.photos: {printable(text)} matches nothing")
        return _merged(matches)
    return _of_path(place, "")


def _of_path(path: Path, name: str) -> FoundPhotos:
    """The photographs of a local source; `name` is that of a match of a pattern."""
    suffix = path.suffix.lower()
    if is_lmdb(path):
        return list_lmdb(path)
    if path.is_dir():
        folder = path.resolve()
        found = discover(folder)
        photos = [replace(each, locator=str(folder / each.name)) for each in found.photos]
        return _prefixed(replace(found, photos=photos), f"{name}/" if name else "")
    if path.is_file() and suffix == ".tar":
        return list_archive(path.resolve(), FileState.of(path))
    if path.is_file() and suffix in SUFFIXES:
        return _file(path.resolve(), name or path.name, None)
    if name and not path.is_file() and suffix in (*SUFFIXES, ".tar"):
        reason = SPECIAL if path.exists() else BROKEN
        return FoundPhotos([], [Skipped(printable(name), reason)], "")
    if name and suffix not in _COMPRESSED:
        return FoundPhotos([], [], "")  # beside what a pattern means
    raise _unusable(path)


def _of_url(url: Url) -> FoundPhotos:
    parts: list[FoundPhotos] = []
    for entry in url.found():
        suffix = PurePosixPath(entry.name).suffix.lower()
        state = FileState(entry.size, entry.mark)
        if entry.is_folder:
            parts.append(_prefixed(_of_url(entry.url), f"{entry.name}/"))
        elif suffix == ".tar":
            parts.append(list_archive(entry.url, state))
        elif suffix in SUFFIXES and not any(map(is_passed_over, entry.name.split("/"))):
            parts.append(_file(entry.url, entry.name, state))
    if not parts:
        raise UserError(f"data.photos: {url}: found no image and no tar archive")
    return _merged(parts)


def _file(place: Location, name: str, state: FileState | None) -> FoundPhotos:
    """A listing of one image."""
    if state is not None and state.size > MAX_BYTES:
        reason = f"{state.size} bytes, at most {MAX_BYTES} are read"
        return FoundPhotos([], [Skipped(printable(name), reason)], "")
    locator = str(place)
    states = {} if state is None else {locator: state}
    return FoundPhotos([Photo(photo_key(name), name, locator)], [], "", states)


def _named(found: FoundPhotos, names: Sequence[str]) -> FoundPhotos:
    """The photographs of these names alone; those that are missing are skipped."""
    known = {photo.name: photo for photo in found.photos}
    lost = {entry.name for entry in found.skipped}
    wanted = set(names)
    skipped = [entry for entry in found.skipped if entry.name in wanted]
    skipped += [
        Skipped(printable(name), "not in the source, though its list names it")
        for name in names
        if name not in known and name not in lost
    ]
    photos = [known[name] for name in names if name in known]
    return replace(found, photos=photos, skipped=skipped)


def _prefixed(found: FoundPhotos, prefix: str) -> FoundPhotos:
    if not prefix:
        return found
    photos = [
        Photo(photo_key(prefix + photo.name), prefix + photo.name, photo.locator)
        for photo in found.photos
    ]
    skipped = [Skipped(printable(prefix + entry.name), entry.reason) for entry in found.skipped]
    return replace(found, photos=photos, skipped=skipped)


def _in_text(found: FoundPhotos) -> FoundPhotos:
    """The photographs whose names and locators are text, as the tables hold them."""
    odd = [photo for photo in found.photos if not is_text(photo.name + photo.locator)]
    if not odd:
        return found
    skipped = [
        Skipped(
            printable(photo.name), f"its {'path' if is_text(photo.name) else 'name'} is not UTF-8"
        )
        for photo in odd
    ]
    photos = [photo for photo in found.photos if is_text(photo.name + photo.locator)]
    return replace(found, photos=photos, skipped=[*found.skipped, *skipped])


def _merged(parts: Sequence[FoundPhotos]) -> FoundPhotos:
    photos = dict.fromkeys(photo for part in parts for photo in part.photos)  # patterns overlap
    return FoundPhotos(
        sorted(photos, key=lambda each: each.name),
        sorted((entry for part in parts for entry in part.skipped), key=lambda each: each.name),
        "; ".join(dict.fromkeys(part.passed_over for part in parts if part.passed_over)),
        {locator: state for part in parts for locator, state in part.states.items()},
    )


def _check_keys(photos: str, found: Sequence[Photo]) -> None:
    if len({photo.key for photo in found}) == len(found):
        return
    keys: dict[str, Photo] = {}
    for photo in found:
        other = keys.setdefault(photo.key, photo)
        if other is not photo:
            raise UserError(
                f"{photos}: found {printable(photo.name)} twice ({_place(other)} and "
                f"{_place(photo)}), expected another `name` for one of the sources"
            )


def _place(photo: Photo) -> str:
    return printable(photo.locator or photo.name)


def _unusable(path: Path) -> UserError:
    if not path.exists():
        return UserError(
            f"data.photos: {printable(path)}: not found, expected a folder, a tar archive, an LMDB "
            "or an image"
        )
    hint = "compressed, expected an uncompressed " if path.suffix in _COMPRESSED else "expected a "
    return UserError(f"data.photos: {printable(path)}: {hint}.tar archive, a folder or an LMDB")
