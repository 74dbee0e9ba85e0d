"""`sets.json`, the list of the sets of pairs beside it.

A stage that reads tokens alone checks with it that they were made from these pairs. It need not
depend on the pair shards, which can be a thousand times larger and elsewhere.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from pipeline.config import Name
from pipeline.shards.manifest import STRICT, Manifest, Sha256, first_line
from pipeline.storage.location import Location, StorageError
from tvqrap.runtime.errors import UserError

SETS = "sets.json"


@dataclass(frozen=True, config=STRICT)
class PairSet:
    """The identity of a set of pairs, which its tokens have to agree with."""

    root: Sha256
    """Root digest of the manifest."""
    size: Annotated[int, Field(ge=1)]
    """Side of the HR crops in pixels."""

    @classmethod
    def of(cls, manifest: Manifest) -> "PairSet":
        """The identity of the set that a manifest describes."""
        return cls(manifest.root, manifest.crop_size)


_LISTED = TypeAdapter(dict[Name, PairSet])


def pair_sets_text(manifests: Iterable[Manifest]) -> str:
    """Content of `sets.json` for these sets of pairs."""
    listed = {manifest.set: asdict(PairSet.of(manifest)) for manifest in manifests}
    return json.dumps(listed, indent=1, sort_keys=True) + "\n"


def listed_pair_set(folder: Location, name: str) -> PairSet:
    """The entry of a set in the `sets.json` of a folder. Raises `UserError` where it has none."""
    path = folder / SETS
    try:
        return _LISTED.validate_json(path.read_bytes())[name]
    except FileNotFoundError:
        raise UserError(f"{path}: not found, expected the list of the sets of pairs") from None
    except StorageError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a list of sets of pairs ({first_line(error)})") from None
    except KeyError:
        raise UserError(f"{path}: found no set called {name}") from None
