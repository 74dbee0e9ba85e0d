"""`tvqrap-cli ui`: a page in the browser that upscales photographs."""

import os
import socket
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tvqrap.cli.checkout import default_model
from tvqrap.cli.options import Device
from tvqrap.cli.upscale_options import MaxPixels, Tile
from tvqrap.runtime.device_names import check_device_name
from tvqrap.runtime.errors import UsageError, UserError

if TYPE_CHECKING:
    from tvqrap.pretrained.models import Model

_PORT = 8765
_LOOPBACK = "127.0.0.1"
_CONNECTIONS = 64
_PATIENCE = 0.2
"""Seconds that the last tile may take after Ctrl-C."""


def ui(
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Model to choose from, named as for upscale; may be given several times. The "
            "first is the default. Those of the package are always there."
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen at, 0.0.0.0 for all; the page then asks for the token of its "
            "URL. If not given, this machine alone can reach it."
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help=f"Port; if not given, {_PORT}, or a free one."),
    ] = None,
    device: Device = "auto",
    tile: Tile = None,
    max_pixels: MaxPixels = 100_000_000,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Upscale photographs on a page in the browser, and compare them before and after.

    The page needs no network. Its files are temporary: download what you want to keep. Ctrl-C ends
    it.
    """
    try:
        check_device_name(device)
    except ValueError as error:
        raise UsageError(f"--{error}") from None
    try:
        import uvicorn
    except ModuleNotFoundError:
        raise UserError("tvqrap-cli ui needs the extra ui (pip install 'tvqrap[ui]')") from None
    listening = _listen(host or _LOOPBACK, port)
    with listening:
        code, ended = _serve(uvicorn, listening, host, model or [], device, tile, max_pixels, show)
    if not ended:
        # The worker still computes a tile, which nothing stops; all files are removed.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise typer.Exit(code)


def _listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens."""
    for number in (_PORT, 0) if port is None else (port,):
        try:
            family = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0][0]
            return socket.create_server((host, number), family=family)
        except UnicodeError:  # of the codec for names of hosts, as for `..`
            raise UsageError(f"--host {host}: found no name of a host") from None
        except OSError as error:
            problem = error
            if port is None and number and not isinstance(error, socket.gaierror):
                continue
            break
    name = "host" if isinstance(problem, socket.gaierror) else "port"
    where = host if name == "host" else f"{port} of {host}"
    raise UsageError(f"--{name} {where}: cannot listen there ({problem.strerror})")


def _serve(
    uvicorn: Any,
    listening: socket.socket,
    host: str | None,
    models: list[str],
    device: str,
    tile: int | None,
    max_pixels: int,
    show: bool,
) -> tuple[int, bool]:
    """Serves the page until a signal; returns the exit code, and whether all work has ended."""
    import secrets

    from tvqrap.runtime.atomic import temporary_folder
    from tvqrap.runtime.cores import use_idle_cores
    from tvqrap.runtime.device import select_device
    from tvqrap.runtime.memory import keep_freed_memory
    from tvqrap.ui.app import make_app
    from tvqrap.ui.work import Work
    from tvqrap.upscaling.settings import Colour
    from tvqrap.upscaling.upscaler import Upscaler

    select_device(device, "--device")
    found = _models(models, tile)

    def load(chosen: "Model", colour: Colour) -> Upscaler:
        use_idle_cores()  # of the worker's thread, which loads the upscaler
        keep_freed_memory()
        return Upscaler.from_pretrained(chosen, device, colour=colour, tile=tile)

    port = listening.getsockname()[1]
    token = None if host is None else secrets.token_urlsafe(24)
    hosts = [f"{name}:{port}" for name in (_LOOPBACK, "localhost")]
    url = f"http://{_url_name(host)}:{port}/" + (f"?token={token}" if token else "")
    with temporary_folder() as folder:
        work = Work(folder, load, tile)
        app = make_app(work, found, hosts, token, max_pixels)
        config = uvicorn.Config(
            app,
            log_level="warning",
            lifespan="off",
            timeout_graceful_shutdown=1,
            limit_concurrency=_CONNECTIONS,
            server_header=False,
        )
        work.start()
        code = 0
        try:
            typer.echo(f"{url}\nThe page is ready; Ctrl-C ends it.")
            if show:
                import webbrowser

                webbrowser.open(url)
            uvicorn.Server(config).run(sockets=[listening])
        except KeyboardInterrupt:
            pass
        except SystemExit as stopped:  # of SIGTERM
            code = int(stopped.code or 0)
        finally:
            ended = work.close(_PATIENCE)
    return code, ended


def _url_name(host: str | None) -> str:
    """The name of this machine in the URL that is printed."""
    if host is None:
        return _LOOPBACK
    if host in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _models(given: list[str], tile: int | None) -> list[tuple[str, "Model"]]:
    """Names and models to choose from; the default first, those of the package always."""
    from tvqrap.pretrained.models import find_model, name_or_path
    from tvqrap.pretrained.packaged import DEGRADED, UPSCALER
    from tvqrap.upscaling.tiles import check_tile

    names = [name_or_path(name) for name in given] or [default_model("rap")]
    packaged = {
        UPSCALER: "tvqrap (package)",
        DEGRADED: "tvqrap for noise and compression (package)",
    }
    found: dict[str, Model] = {}
    for name in [*names, *packaged]:
        model = find_model(name)
        if tile is not None:
            try:
                check_tile(tile, model.lr_multiple)
            except ValueError as error:
                raise UsageError(f"--{error}") from None
        shown = str(name) if given else "models/rap"
        found.setdefault(packaged.get(model.path, shown), model)
    return list(found.items())
