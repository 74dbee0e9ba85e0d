"""The cluster that Ray's part of the work runs on."""

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

from pipeline.executor.code_digest import code_digest, package_folders
from pipeline.executor.outcome import one_line
from tvqrap.runtime.errors import UserError

_STARTS = 3
CONNECT_SECONDS = 10.0


@contextlib.contextmanager
def ray_cluster() -> Iterator[Any]:
    """The ray module with a connection: the one that is open, RAY_ADDRESS's, or a local cluster.

    Around several runs it saves starting a cluster for each, which takes longer than small sets.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        yield ray
        return
    address = os.environ.get("RAY_ADDRESS")
    # Workers of a cluster that already runs may hold another copy of the code; those of a local one
    # would import what has been edited since. All get a copy of what the driver has now.
    code_digest()
    shipped = {"py_modules": [str(path) for path in package_folders()]}
    if address:
        _check_reachable(address)
        try:
            ray.init(address, runtime_env=shipped)
        except ConnectionError as error:
            raise UserError(f"RAY_ADDRESS is {address!r}: {one_line(error)}") from None
    else:
        _start_local(ray, shipped)
    try:
        yield ray
    finally:
        ray.shutdown()


def _start_local(ray: Any, shipped: dict[str, Any]) -> None:
    """Starts a local cluster. Ray gives it 30 seconds, which a busy machine may exceed."""
    for _ in range(_STARTS):
        try:
            # Without an address ray.init would attach to any cluster that it finds.
            ray.init("local", include_dashboard=False, runtime_env=shipped)
            return
        except Exception as error:  # Ray raises no kind of its own
            ray.shutdown()
            if "timed out during startup" not in str(error):
                raise
    raise UserError(f"Ray: no local cluster in {_STARTS} tries of 30 s: is this machine too busy?")


def _check_reachable(address: str) -> None:
    """UserError where nothing listens at a cluster's address: ray itself tries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return  # "auto", which ray resolves
    try:
        with socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS):
            pass
    except (OSError, ValueError) as error:
        raise UserError(
            f"RAY_ADDRESS is {address!r}: no connection ({error}), expected the address of a "
            "running cluster"
        ) from None
