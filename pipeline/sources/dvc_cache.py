"""The cache that DVC links tracked photographs into, where the cache is not copied from."""

from configparser import ConfigParser, Error
from pathlib import Path

_CONFIGS = ("config", "config.local")


def dvc_caches(here: Path) -> list[Path]:
    """The cache folder of the DVC checkout around `here`; none outside of a checkout.

    That is `.dvc/cache`, or `cache.dir` of the checkout's own configuration files.
    """
    for folder in (here, *here.parents):
        if (folder / ".dvc").is_dir():
            return [_cache(folder / ".dvc")]
    return []


def _cache(control: Path) -> Path:
    cache = control / "cache"
    for name in _CONFIGS:
        parser = ConfigParser(interpolation=None)
        try:
            parser.read_string((control / name).read_text())
        except (OSError, ValueError, Error):
            continue
        if chosen := parser.get("cache", "dir", fallback=""):
            cache = control / chosen  # a relative one counts from the file's folder
    return cache
