"""The ASGI application of the page."""

import math
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from io import RawIOBase
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

import tvqrap
import tvqrap.evaluation.report
from tvqrap.photo_io.formats import FORMATS
from tvqrap.pretrained.models import Model
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.text import printable
from tvqrap.ui.comparison import LARGEST_SIDE, Side, picture
from tvqrap.ui.guard import Guard
from tvqrap.ui.work import Choice, Photo, Work
from tvqrap.upscaling.settings import OutputSettings, check_choices

LARGEST_UPLOAD = 512 * 2**20
"""Bytes of a photograph's file."""
_LONGEST_NAME = 300

_PAGE = Path(__file__).parent / "page"
_SHARED = Path(tvqrap.evaluation.report.__file__).parent / "template"
"""Holds the slider, which the evaluation report has too."""
_ASSETS = {
    "page.css": (_PAGE, "text/css"),
    "page.js": (_PAGE, "text/javascript"),
    "slider.css": (_SHARED, "text/css"),
    "slider.js": (_SHARED, "text/javascript"),
}


def make_app(
    work: Work,
    models: Sequence[tuple[str, Model]],
    hosts: Iterable[str],
    token: str | None = None,
    max_pixels: int = OutputSettings.max_pixels,
) -> Starlette:
    """The application for a queue of work.

    `models` are names and models to choose from, `hosts` the names with ports under which the page
    is asked for, and `token` is needed where it is given (see `Guard`).
    """
    page = _Page(work, models, max_pixels)
    routes = [
        Route("/", page.index),
        Route("/assets/{name}", page.asset),
        Route("/api/state", page.state),
        Route("/api/photos", page.upload, methods=["POST"]),
        Route("/api/photos/{id}/again", page.again, methods=["POST"]),
        Route("/api/photos/{id}", page.remove, methods=["DELETE"]),
        Route("/api/photos/{id}/output", page.output),
        Route("/api/photos/{id}/{side}.png", page.picture),
        Route("/api/outputs.zip", page.outputs),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, hosts=tuple(hosts), token=token)],
        exception_handlers=dict.fromkeys(
            (HTTPException, UserError, ValueError, OSError, ClientDisconnect), _failure
        ),
    )


async def _failure(request: Request, error: Exception) -> Response:
    """An error as one line for the page."""
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code)
    if isinstance(error, OSError):  # a full disk, say
        return JSONResponse({"error": f"cannot be stored ({error.strerror})"}, 507)
    return JSONResponse({"error": printable(str(error))}, 422)


class _Page:
    """Answers the requests."""

    def __init__(self, work: Work, models: Sequence[tuple[str, Model]], max_pixels: int) -> None:
        self.work = work
        self.models = models
        self.max_pixels = max_pixels

    async def index(self, request: Request) -> Response:
        return FileResponse(_PAGE / "index.html", media_type="text/html")

    async def asset(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _ASSETS:
            raise HTTPException(404, "there is no such file")
        folder, kind = _ASSETS[name]
        return FileResponse(folder / name, media_type=kind)

    async def state(self, request: Request) -> Response:
        photos = await run_in_threadpool(
            lambda: [photo.described() for photo in self.work.photos()]
        )
        return JSONResponse(
            {
                "version": tvqrap.__version__,
                "models": [name for name, _ in self.models],
                "formats": {
                    form.name: {"lossy": form.lossy, "lossless": form.lossless}
                    for form in FORMATS.values()
                },
                "largest_upload": LARGEST_UPLOAD,
                "largest_side": LARGEST_SIDE,
                "photos": photos,
            }
        )

    async def upload(self, request: Request) -> Response:
        """The body is the photograph's file; name and choices are in the query."""
        given = request.query_params.get("name", "")[-_LONGEST_NAME:] or "photograph"
        name = "".join(char if char.isprintable() else "_" for char in given)
        choice = self._choice(request.query_params)
        length = request.headers.get("content-length", "")
        if not re.fullmatch(r"\d{1,15}", length):
            raise HTTPException(411, f"{name}: expected its length in bytes")
        if int(length) > LARGEST_UPLOAD:
            limit = f"at most {LARGEST_UPLOAD // 2**20} MB are taken"
            raise HTTPException(413, f"{name}: {int(length) / 2**20:.0f} MB, {limit}")
        with self.work.receiving(name, int(length)) as path:
            with path.open("wb") as file:
                async for chunk in request.stream():
                    await run_in_threadpool(file.write, chunk)
            photo = await run_in_threadpool(self.work.add, path, name, choice)
        return JSONResponse(photo.described(), 201)

    async def again(self, request: Request) -> Response:
        photo, choice = self._photo(request), self._choice(request.query_params)
        added = await run_in_threadpool(self.work.again, photo, choice)
        return JSONResponse(added.described(), 201)

    async def remove(self, request: Request) -> Response:
        if not await run_in_threadpool(self.work.remove, request.path_params["id"]):
            raise HTTPException(404, "there is no such photograph")
        return Response(status_code=204)

    async def output(self, request: Request) -> Response:
        photo = self._finished(request)
        return FileResponse(
            photo.target, filename=photo.target.name, media_type="application/octet-stream"
        )

    async def picture(self, request: Request) -> Response:
        photo, side = self._finished(request), request.path_params["side"]
        if side not in ("before", "after") or not photo.compared:
            raise HTTPException(404, "there is no such picture")
        shown: Side = side
        given = request.query_params.get("part")
        box = None
        if given is not None:
            match = re.fullmatch(r"(\d{1,9}),(\d{1,9}),(\d{1,9}),(\d{1,9})", given)
            if match is None:
                raise ValueError("part: expected left,top,right,bottom")
            left, top, right, bottom = map(int, match.groups())
            box = left, top, right, bottom
        content = await run_in_threadpool(picture, photo.folder, shown, photo.task.size, box)
        # A picture of an id never changes.
        headers = {"cache-control": "private, max-age=3600"}
        return Response(content, media_type="image/png", headers=headers)

    async def outputs(self, request: Request) -> Response:
        photos = [photo for photo in self.work.photos() if photo.status == "done"]
        if not photos:
            raise HTTPException(404, "no photograph is upscaled yet")
        headers = {"content-disposition": 'attachment; filename="upscaled.zip"'}
        return StreamingResponse(_zipped(photos), media_type="application/zip", headers=headers)

    def _photo(self, request: Request) -> Photo:
        photo = self.work.photo(request.path_params["id"])
        if photo is None:
            raise HTTPException(404, "there is no such photograph")
        return photo

    def _finished(self, request: Request) -> Photo:
        photo = self._photo(request)
        if photo.status != "done":
            raise HTTPException(404, f"{photo.name}: is not upscaled")
        return photo

    def _choice(self, query: QueryParams) -> Choice:
        """The choices of a query. Raises ValueError, as one line, for impossible ones."""
        number = query.get("model", "0")
        if not re.fullmatch(r"\d{1,3}", number) or int(number) >= len(self.models):
            raise ValueError(f"model is {number!r}, expected one of the list")
        name, model = self.models[int(number)]
        scale, size, quality = query.get("scale"), query.get("size"), query.get("quality")
        box = None if size is None else re.fullmatch(r"(\d{1,6})x(\d{1,6})", size)
        if size is not None and box is None:
            raise ValueError(f"size is {size!r}, expected WIDTHxHEIGHT")
        chosen: Any = {"frames": query.get("frames", "first")}
        if scale is not None:
            chosen["scale"] = _number("scale", scale)
        if quality is not None:
            chosen["quality"] = int(_number("quality", quality))
        settings = OutputSettings(
            size=None if box is None else (int(box[1]), int(box[2])),
            format=query.get("format"),
            lossless=query.get("lossless") == "1",
            max_pixels=self.max_pixels,
            **chosen,
        )
        colour: Any = query.get("colour", "keep")
        check_choices("float32", colour)
        return Choice(model, name, settings, colour)


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{name} is {text[:20]!r}, expected a number")
    return value


class _Chunks(RawIOBase):
    """Collects what is written, for a stream that nobody can go back in."""

    def __init__(self) -> None:
        self.waiting: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self.waiting.append(bytes(content))
        return len(content)

    def take(self) -> bytes:
        taken = b"".join(self.waiting)
        self.waiting.clear()
        return taken


def _zipped(photos: Sequence[Photo]) -> Iterator[bytes]:
    """A ZIP of all outputs, piece by piece, in the folders that the photographs came in."""
    names: set[str] = set()
    chunks = _Chunks()
    with zipfile.ZipFile(chunks, "w", zipfile.ZIP_STORED) as archive:
        for photo in photos:
            name = _zip_name(photo, names)
            try:
                source = photo.target.open("rb")
            except FileNotFoundError:  # removed meanwhile
                continue
            info = zipfile.ZipInfo(name)
            with source, archive.open(info, "w", force_zip64=True) as entry:
                while content := source.read(2**20):
                    entry.write(content)
                    yield chunks.take()
    yield chunks.take()


def _zip_name(photo: Photo, taken: set[str]) -> str:
    """A name that is not taken, without parts that lead out of the folder it is unpacked to."""
    folders = [part for part in re.split(r"[/\\]", photo.name)[:-1] if part.strip(". ")]
    target = photo.target
    number = 1
    while True:
        last = target.name if number == 1 else f"{target.stem} ({number}){target.suffix}"
        name = "/".join([*folders, last]).replace(":", "_")
        if name.casefold() not in taken:
            taken.add(name.casefold())
            return name
        number += 1
