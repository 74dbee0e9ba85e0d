"""The cache that DVC links tracked photographs into, where it does not copy them."""

import os
from configparser import ConfigParser, Error
from pathlib import Path


def dvc_caches(here: Path) -> list[Path]:
    """The cache folder of the DVC checkout around `here`; none outside of a checkout.

    That is `.dvc/cache`, or `cache.dir` of the user's or the checkout's configuration files.
    """
    for folder in (here, *here.parents):
        control = folder / ".dvc"
        if control.is_dir():
            cache = control / "cache"
            for config in (_user_config(), control / "config", control / "config.local"):
                cache = _chosen(config) or cache
            return [cache]
    return []


def _user_config() -> Path:
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    folder = os.environ.get("DVC_GLOBAL_CONFIG_DIR") or f"{home}/dvc"
    return Path(folder).expanduser() / "config"


def _chosen(config: Path) -> Path | None:
    """`cache.dir` of a configuration file; a relative path counts from the file's folder."""
    parser = ConfigParser(interpolation=None)
    try:
        parser.read_string(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, Error):
        return None
    folder = parser.get("cache", "dir", fallback="")
    return config.parent / Path(folder).expanduser() if folder else None
