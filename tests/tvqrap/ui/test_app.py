"""The page of `tvqrap-cli ui`, without a browser."""

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from tests.support.commands import run
from tests.support.image_files import png
from tests.support.ui import HOST, Held, Ui
from tests.support.upscaling import picture
from tvqrap.ui import app as app_module
from tvqrap.ui import comparison
from tvqrap.ui.app import make_app
from tvqrap.upscaling.upscaler import Upscaler


def content(width: int = 20, height: int = 12, form: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    picture(width, height).save(stream, form, **options)
    return stream.getvalue()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    made = Held()
    monkeypatch.setattr(Upscaler, "rows", lambda *given: made.rows(*given))
    return made


def pixels(answer: Any) -> np.ndarray:
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(answer.content)))


@pytest.mark.parametrize(
    ("query", "words", "name"),
    [
        ({}, (), "a_x4.jpg"),
        ({"scale": "2", "format": "png"}, ("--scale", "2", "--format", "png"), "a_x2.png"),
        (
            {"size": "50x50", "format": "webp", "quality": "40", "colour": "match"},
            ("--size", "50x50", "--format", "webp", "--quality", "40", "--colour", "match"),
            "a_50x50.webp",
        ),
    ],
)
def test_the_output_is_that_of_the_command(
    ui: Ui,
    tiny_model: Path,
    tmp_path: Path,
    query: dict[str, str],
    words: tuple[str, ...],
    name: str,
) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    photo = content(20, 12, "JPEG", exif=exif)
    found = ui.wait(ui.added(photo, "album/a.jpg", **query))
    assert found["status"] == "done" and found["progress"] == 1 and found["file"] == name
    assert found["from"] == [12, 20] and found["name"] == "album/a.jpg"
    (tmp_path / "a.jpg").write_bytes(photo)
    command = ["upscale", tmp_path / "a.jpg", "--model", tiny_model, "--device", "cpu"]
    result = run(*command, *words)
    assert result.exit_code == 0, result.output
    expected = (tmp_path / name).read_bytes()
    assert ui.output(found["id"]) == expected and found["bytes"] == len(expected)


def test_a_tile_is_recorded_as_by_the_command(
    tmp_path: Path, tiny_model: Path, quick: None
) -> None:
    (tmp_path / "files").mkdir()
    ui = Ui(tmp_path / "files", tiny_model, tile=64)
    (tmp_path / "a.png").write_bytes(content())
    photo_id = ui.added(content())
    ui.wait(photo_id)
    command = ["upscale", tmp_path / "a.png", "--model", tiny_model, "--device", "cpu"]
    result = run(*command, "--tile", "64")
    assert result.exit_code == 0, result.output
    assert ui.output(photo_id) == (tmp_path / "a_x4.png").read_bytes()
    ui.close()


def test_progress_and_notes(ui: Ui, held: Held) -> None:
    gif = io.BytesIO()
    frames = [picture(8, 8), picture(8, 8).rotate(90)]
    frames[0].save(gif, "GIF", save_all=True, append_images=frames[1:])
    first, second = ui.added(content()), ui.added(gif.getvalue(), "b.gif")
    assert held.begun.wait(30)
    assert ui.photo(first)["status"] == "running" and ui.photo(first)["progress"] == 0
    assert ui.photo(second)["status"] == "waiting"
    held.may_go_on.set()
    assert ui.wait(first)["progress"] == 1
    assert ui.wait(second)["notes"] == [
        "b.gif: holds 2 images, the first is read; --frames all takes every one"
    ]


def test_all_frames(ui: Ui, quick: None) -> None:
    gif = io.BytesIO()
    frames = [picture(8, 8), picture(8, 8).rotate(90)]
    frames[0].save(gif, "GIF", save_all=True, append_images=frames[1:])
    found = ui.wait(ui.added(gif.getvalue(), "b.gif", frames="all"))
    assert found["images"] == 2 and found["progress"] == 1
    with Image.open(io.BytesIO(ui.output(found["id"]))) as large:
        assert large.format == "PNG" and large.n_frames == 2


HUGE = png((b"IHDR", b"\0\1\0\0\0\1\0\0\x08\2\0\0\0"), (b"IDAT", b""))
CUT = content(90, 90)[:3000]


@pytest.mark.parametrize(
    ("given", "query", "line"),
    [
        (b"no image", {}, "a.png: not an image of a known format"),
        (b"", {}, "a.png: not an image of a known format"),
        (HUGE, {}, "a.png: (too large|65536x65536 is 4294967296 pixels), at most 10000 "),
        (content(101, 100), {}, "a.png: 101x100 is 10100 pixels, at most 10000 are read"),
        (content(), {"model": "1"}, "model is '1', expected one of the list"),
        (content(), {"model": "../x"}, "model is '../x', expected one of the list"),
        (content(), {"scale": "65"}, "scale is 65, expected more than 0, at most 64"),
        (content(), {"scale": "nan"}, "scale is 'nan', expected a number"),
        (content(), {"size": "9"}, "size is '9', expected WIDTHxHEIGHT"),
        (content(), {"size": "9999x9999"}, "a.png: 20x12 would be enlarged 500 times, expected "),
        (content(), {"format": "gif"}, "format is 'gif', expected one of png"),
        (content(), {"quality": "9"}, "quality has no meaning for png"),
        (content(), {"frames": "some"}, "frames is 'some', expected first or all"),
        (content(), {"colour": "red"}, "colour is 'red', expected keep or match"),
    ],
)
def test_what_cannot_be_is_one_line(ui: Ui, given: bytes, query: dict[str, str], line: str) -> None:
    answer = ui.send(given, **query)
    assert answer.status_code == 422 and re.match(line, answer.json()["error"]), answer.text
    assert "\n" not in answer.json()["error"]
    assert list(ui.folder.iterdir()) == []


def test_a_photograph_that_turns_out_to_be_broken_fails_alone(ui: Ui, quick: None) -> None:
    broken, whole = ui.added(CUT, "cut.png"), ui.added(content())
    found = ui.wait(broken)
    assert found["status"] == "failed"
    assert found["message"].startswith("cut.png: cannot be read as an image (")
    assert ui.client.get(f"/api/photos/{broken}/output").status_code == 404
    assert ui.wait(whole)["status"] == "done"


def test_limits_of_bytes(
    ui: Ui, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "LARGEST_UPLOAD", 2**20)
    answer = ui.send(bytes(2**20 + 1))
    assert answer.status_code == 413
    assert answer.json()["error"] == "a.png: 1 MB, at most 1 MB are taken"
    pieces = (bytes(10) for _ in range(3))  # a body of unknown length
    assert ui.client.post("/api/photos?name=a.png", content=pieces).status_code == 411
    (tmp_path / "small").mkdir()
    small = Ui(tmp_path / "small", tiny_model, largest_total=40_000)
    assert "a.png: needs up to 0.0 GB" in small.send(bytes(40_001)).json()["error"]
    found = small.wait(small.added(content(60, 60)))  # its output might be larger than the limit
    assert found["status"] == "failed" and "of temporary files" in found["message"]
    small.close()
    assert list(ui.folder.iterdir()) == []


def test_cancelling(ui: Ui, held: Held) -> None:
    running, waiting, last = (ui.added(content()) for _ in range(3))
    assert held.begun.wait(30)
    for photo_id in (running, waiting):
        assert ui.client.delete(f"/api/photos/{photo_id}").status_code == 204
    assert ui.client.delete(f"/api/photos/{waiting}").status_code == 404
    held.may_go_on.set()
    assert ui.wait(last)["status"] == "done"
    assert [path.name for path in ui.folder.iterdir()] == [last]
    assert ui.client.delete(f"/api/photos/{last}").status_code == 204
    assert list(ui.folder.iterdir()) == []
    assert ui.client.get("/api/state").json()["photos"] == []


def test_again_with_other_choices(ui: Ui, quick: None) -> None:
    first = ui.added(content(), "a.png")
    answer = ui.client.post(f"/api/photos/{first}/again", params={"scale": "2", "format": "tiff"})
    assert answer.status_code == 201
    ui.client.delete(f"/api/photos/{first}")
    second = ui.wait(answer.json()["id"])
    assert second["file"] == "a_x2.tif" and second["to"] == [40, 24]
    assert ui.client.post(f"/api/photos/{first}/again").status_code == 404


@pytest.mark.parametrize("name", ["before.png", "after.png", "after.npy", "output", "photograph"])
def test_a_name_of_our_own_files(ui: Ui, quick: None, name: str) -> None:
    first = ui.added(content(), name)
    assert ui.wait(first)["status"] == "done" and ui.photo(first)["compared"]
    answer = ui.client.post(f"/api/photos/{first}/again", params={"format": "png"})
    assert answer.status_code == 201, answer.text
    second = ui.wait(answer.json()["id"])
    small = np.asarray(picture(20, 12))
    large = np.asarray(Image.open(io.BytesIO(ui.output(second["id"]))))
    np.testing.assert_array_equal(large, small.repeat(4, 0).repeat(4, 1))


def test_a_message_of_the_output_names_no_folder_of_ours(
    ui: Ui, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("tvqrap.photo_io.png.PngWriter.finish", fail)
    found = ui.wait(ui.added(content()))
    assert found["message"] == "output/a_x4.png: cannot be written (disk full)"


def test_pictures_to_compare(ui: Ui, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "LARGEST_SIDE", 64)
    photo_id = ui.added(content(30, 20))
    ui.wait(photo_id)

    def shown(side: str, part: str = "") -> Any:
        params = {"part": part} if part else {}
        return ui.client.get(f"/api/photos/{photo_id}/{side}.png", params=params)

    small = np.asarray(picture(30, 20))
    assert pixels(shown("after")).shape == pixels(shown("before")).shape == (43, 64, 3)
    part = pixels(shown("after", "30,20,94,60"))
    np.testing.assert_array_equal(part, small.repeat(4, 0).repeat(4, 1)[20:60, 30:94])
    whole = np.asarray(picture(30, 20).resize((120, 80), Image.Resampling.BICUBIC))
    part = pixels(shown("before", "30,20,94,60")).astype(int)
    assert np.abs(part - whole[20:60, 30:94]).max() <= 1
    for part, message in (
        ("0,0,65,1", "part is 65x1, expected sides up to 64"),
        ("0,0,121,9", "expected one of 120x80"),
        ("9,0,9,9", "expected one of 120x80"),
        ("0,0,-1,9", "part: expected left,top,right,bottom"),
    ):
        answer = shown("after", part)
        assert answer.status_code == 422 and message in answer.json()["error"]
    assert shown("model").status_code == 404


def test_all_outputs_as_a_zip(ui: Ui, quick: None) -> None:
    assert ui.client.get("/api/outputs.zip").status_code == 404
    names = ["album/a.png", "album/a.png", "../../b.png", "..\\c.png", "/d<b>.png", "C:\\e.png"]
    ids = [ui.added(content(4 + number, 4), name) for number, name in enumerate(names)]
    for photo_id in ids:
        assert ui.wait(photo_id)["status"] == "done"
    answer = ui.client.get("/api/outputs.zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [
            *("album/a_x4.png", "album/a_x4 (2).png", "b_x4.png", "c_x4.png", "d<b>_x4.png"),
            "C_/e_x4.png",
        ]
        assert archive.read("album/a_x4 (2).png") == ui.output(ids[1])


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("", "photograph_x4.png"),
        (".png", "png_x4.png"),
        ("a\x00\x1b.png", "a___x4.png"),
        ("ä" * 300 + ".jpeg", "ä" * 90 + "_x4.jpeg"),
        ("../../../etc/passwd", "passwd_x4.png"),
    ],
)
def test_odd_names(ui: Ui, quick: None, name: str, file: str) -> None:
    found = ui.wait(ui.added(content(), name))
    assert found["status"] == "done" and found["file"].startswith(file)
    assert all(path.is_relative_to(ui.folder) for path in ui.folder.rglob("*"))


class TestGuard:
    def test_other_hosts(self, ui: Ui) -> None:
        for host in ("evil.example", f"{HOST}.evil.example", "localhost:80", "", "127.0.0.1"):
            answer = ui.client.get("/api/state", headers={"host": host})
            assert answer.status_code == 403, host
        assert ui.client.get("/", headers={"host": HOST.upper()}).status_code == 200

    def test_port_80_which_browsers_leave_out(self, ui: Ui) -> None:
        client = TestClient(make_app(ui.work, [], ["localhost:80", "127.0.0.1:80"]))
        for host in ("localhost", "LOCALHOST:80", "127.0.0.1"):
            assert client.get("/", headers={"host": host}).status_code == 200, host
        for host in ("evil.example", "localhost:8080", "localhost:80:80", ""):
            assert client.get("/", headers={"host": host}).status_code == 403, host

    @pytest.mark.parametrize(
        "headers",
        [
            {"origin": "http://evil.example"},
            {"origin": "null"},
            {"origin": "http://localhost:9000"},
            {"sec-fetch-site": "cross-site"},
            {"origin": f"http://{HOST}", "sec-fetch-site": "same-site"},
        ],
    )
    def test_requests_of_other_pages(self, ui: Ui, quick: None, headers: dict[str, str]) -> None:
        photo_id = ui.added(content())
        ui.wait(photo_id)
        for method, path in (
            ("POST", "/api/photos?name=a.png"),
            ("POST", f"/api/photos/{photo_id}/again"),
            ("DELETE", f"/api/photos/{photo_id}"),
        ):
            assert ui.client.request(method, path, headers=headers).status_code == 403
        assert len(ui.client.get("/api/state").json()["photos"]) == 1
        own = {"origin": f"http://{HOST}", "sec-fetch-site": "same-origin"}
        assert ui.client.delete(f"/api/photos/{photo_id}", headers=own).status_code == 204

    def test_the_token(self, tmp_path: Path, tiny_model: Path) -> None:
        ui = Ui(tmp_path, tiny_model, token="secret")
        paths = ["/", "/assets/page.js", "/api/state", "/api/outputs.zip"]
        wrong = ["/api/state?token=secret", "/?token=", "/?token=secre", "/?token=sécret"]
        for path in (*paths, *wrong):
            answer = ui.client.get(path, headers={"host": "elsewhere:1"})
            assert answer.status_code == 403 and "printed" in answer.text, path
            assert "set-cookie" not in answer.headers
        assert ui.send(content()).status_code == 403
        first = ui.client.get("/?token=secret")
        assert first.status_code == 303 and first.headers["location"] == "/"
        cookie = first.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=lax" in cookie
        assert ui.client.get("/").status_code == 200
        assert ui.client.get("/api/state").json()["photos"] == []
        ui.client.cookies.clear()
        assert ui.client.get("/", headers={"cookie": "tvqrap-8000=wrong"}).status_code == 403
        ui.close()

    def test_the_page_asks_nothing_of_the_network(self, ui: Ui) -> None:
        answer = ui.client.get("/")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        for name in ("page.css", "page.js", "slider.css", "slider.js"):
            assert f"/assets/{name}" in answer.text
            asset = ui.client.get(f"/assets/{name}")
            assert asset.status_code == 200 and "//" not in asset.text.replace("// ", "")
        assert ui.client.get("/assets/report.html").status_code == 404
        assert ui.client.get("/assets/..%2Fapp.py").status_code == 404
