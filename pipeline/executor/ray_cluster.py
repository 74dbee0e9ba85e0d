"""Connects to the Ray cluster at RAY_ADDRESS, or starts a local one."""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.executor.code_digest import code_digest, package_folders
from tvqrap.runtime.errors import UserError, one_line

_STARTS = 3
CONNECT_SECONDS = 10.0
_PROBE_SECONDS = 120.0

_SOCKET_BYTES = 107
"""The longest path of a Unix socket."""
_LONGEST_SOCKET = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.99"
"""The longest path of a socket below Ray's temporary folder."""
_SHORT_TMPDIR = "/tmp"

_ADDRESS = "the HOST:PORT of a running cluster, ray://HOST:PORT or auto"
_TOKEN = "RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token"


@contextlib.contextmanager
def ray_cluster() -> Iterator[Any]:
    """The ray module with a connection: the one that is open, RAY_ADDRESS's, or a local cluster.

    Several runs within the block share one cluster: a start takes longer than a small set. Raises
    `UserError` of one line where the cluster cannot be reached or started.
    """
    imported = sys.modules.get("ray")
    if imported is not None and imported.is_initialized():
        yield imported
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS", "")
    if address not in ("", "local", "auto"):
        _check_address(address)
        # Before ray is imported, which reads it once.
        _choose_authentication(address)
    import ray

    # Workers of a running cluster may import another copy of the code, and those of a local one
    # import edits made since. So all get a copy of the code that the driver has now.
    code_digest()
    shipped = {"py_modules": [str(path) for path in package_folders()]}
    with contextlib.ExitStack() as stack:
        if address in ("", "local"):
            stack.enter_context(_short_socket_paths())
            _start_local(ray, shipped)
        else:
            _connect(ray, address, shipped)
        stack.callback(ray.shutdown)
        yield ray


def _check_address(address: str) -> None:
    """Raises `UserError` where nothing listens at an address: Ray itself tries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal() or "/" in host:
        raise UserError(f"RAY_ADDRESS is {address!r}, expected {_ADDRESS}")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS):
            pass
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(
            f"RAY_ADDRESS is {address!r}: no connection ({error}), expected {_ADDRESS}"
        ) from None


def _choose_authentication(address: str) -> None:
    """Makes Ray send the token that there is to a cluster that demands one.

    `ray start` protects its cluster with a token where it finds one, but a driver that connects to
    an address sends it only where RAY_AUTH_MODE says so. Driver and cluster need the same mode: a
    driver with a token refuses the calls of workers without one.
    """
    if "RAY_AUTH_MODE" in os.environ or not _has_token() or _needs_no_token(address):
        return
    os.environ["RAY_AUTH_MODE"] = "token"


def _needs_no_token(address: str) -> bool:
    """Whether a driver without a token can connect. A process tries, since ray's mode is final."""
    try:
        tried = subprocess.run(
            [sys.executable, "-c", "import ray, sys; ray.init(sys.argv[1])", address],
            env={**os.environ, "RAY_AUTH_MODE": "disabled"},
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return tried.returncode == 0


def _has_token() -> bool:
    """Whether there is a token in one of the places where Ray looks for it."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return True
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or Path("~/.ray/auth_token").expanduser()
    try:
        return Path(path).is_file()
    except OSError:
        return False


def _connect(ray: Any, address: str, shipped: dict[str, Any]) -> None:
    try:
        ray.init(address, runtime_env=shipped)
    except Exception as error:  # Ray raises errors of many kinds
        raise UserError(
            f"RAY_ADDRESS is {address!r}: {one_line(error)}; expected {_ADDRESS}, and its token, "
            f"if it has one, in {_TOKEN}"
        ) from error


def _start_local(ray: Any, shipped: dict[str, Any]) -> None:
    """Starts a local cluster. Ray gives it 30 seconds, which a busy machine may exceed."""
    if os.environ.get("RAY_AUTH_MODE") != "disabled" and not _has_token():
        # Ray would write one to ~/.ray, which may be read-only, and later clusters would demand it.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    for _ in range(_STARTS):
        try:
            # Without an address ray.init would attach to any cluster that it finds.
            ray.init("local", include_dashboard=False, runtime_env=shipped)
            return
        except Exception as error:  # Ray raises errors of many kinds
            ray.shutdown()
            if "timed out during startup" not in str(error):
                raise UserError(
                    f"Ray: the local cluster did not start: {one_line(error)}"
                ) from error
    raise UserError(f"Ray: no local cluster in {_STARTS} tries of 30 s: is this machine too busy?")


@contextlib.contextmanager
def _short_socket_paths() -> Iterator[None]:
    """Gives Ray a short temporary folder where TMPDIR is too long for the paths of its sockets.

    RAY_TMPDIR is the user's own choice and stays.
    """
    folder = os.environ.get("TMPDIR", _SHORT_TMPDIR)
    if "RAY_TMPDIR" in os.environ or len(os.fsencode(folder + _LONGEST_SOCKET)) <= _SOCKET_BYTES:
        yield
        return
    try:
        short = tempfile.TemporaryDirectory(
            prefix="ray-", dir=_SHORT_TMPDIR, ignore_cleanup_errors=True
        )
    except OSError as error:
        raise UserError(
            f"TMPDIR is {folder!r}, too long for Ray's sockets, and {_SHORT_TMPDIR} cannot be used "
            f"({error}); expected RAY_TMPDIR to name a folder of at most "
            f"{_SOCKET_BYTES - len(_LONGEST_SOCKET)} bytes"
        ) from None
    with short as name:
        os.environ["RAY_TMPDIR"] = name
        try:
            yield
        finally:
            del os.environ["RAY_TMPDIR"]
