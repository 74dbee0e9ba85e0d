"""The page of `tvqrap-cli ui` without a browser."""

import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from tests.support.upscaling import repeated
from tvqrap.pretrained.models import Model, find_model
from tvqrap.ui.app import make_app
from tvqrap.ui.work import LARGEST_TOTAL, Work
from tvqrap.upscaling.settings import Colour
from tvqrap.upscaling.upscaler import Upscaler

HOST = "localhost:8000"


def load(model: Model, colour: Colour, tile: int | None = None) -> Upscaler:
    return Upscaler.from_pretrained(model, "cpu", colour=colour, tile=tile)


class Ui:
    """The application with a worker, and what a browser would do."""

    def __init__(self, folder: Path, model: Path, **options: Any) -> None:
        self.folder = folder
        tile, largest_total = options.pop("tile", None), options.pop("largest_total", LARGEST_TOTAL)
        self.work = Work(folder, partial(load, tile=tile), tile, largest_total)
        models = [("tiny", find_model(model))]
        self.app = make_app(self.work, models, [HOST], **options)
        self.client = TestClient(self.app, base_url=f"http://{HOST}", follow_redirects=False)
        self.client.__enter__()  # one event loop for all requests
        self.work.start()

    def close(self) -> None:
        self.client.__exit__(None, None, None)
        assert self.work.close(30)

    def send(self, content: bytes, name: str = "a.png", **query: Any) -> Any:
        return self.client.post("/api/photos", params={"name": name, **query}, content=content)

    def added(self, content: bytes, name: str = "a.png", **query: Any) -> str:
        """Sends a photograph; its id."""
        answer = self.send(content, name, **query)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def photo(self, photo_id: str) -> dict[str, Any]:
        photos: list[dict[str, Any]] = self.client.get("/api/state").json()["photos"]
        return next(photo for photo in photos if photo["id"] == photo_id)

    def wait(self, photo_id: str, *wanted: str) -> dict[str, Any]:
        """Waits until a photograph is done or failed, or in another state that is wanted."""
        for _ in range(3000):
            photo = self.work.photo(photo_id)
            assert photo is not None
            if photo.status in (wanted or ("done", "failed")):
                return self.photo(photo_id)
            time.sleep(0.02)
        raise AssertionError(f"still {photo.status}")

    def output(self, photo_id: str) -> bytes:
        answer = self.client.get(f"/api/photos/{photo_id}/output")
        assert answer.status_code == 200, answer.text
        return bytes(answer.content)


class Held:
    """In place of `Upscaler.rows`: waits in the first band until it may go on."""

    def __init__(self) -> None:
        self.begun, self.may_go_on = threading.Event(), threading.Event()

    def rows(self, upscaler: Upscaler, lr: np.ndarray, advance: Any = None) -> Iterator[np.ndarray]:
        self.begun.set()
        assert self.may_go_on.wait(30)
        half = lr.shape[0] * lr.shape[1] // 2
        advance(half)
        yield from repeated(upscaler, lr)
        advance(lr.shape[0] * lr.shape[1] - half)
