"""Models from the hub, by a server that answers as the hub does."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tvqrap.pretrained.hub import hub_folder, is_hub_name
from tvqrap.pretrained.packaged import UPSCALER
from tvqrap.runtime.errors import UserError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = ("README.md", "model.json", "model.safetensors", "pickled.bin")


class Hub(BaseHTTPRequestHandler):
    """Has one model, user/tiny."""

    asked: list[str]

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        self.asked.append(self.path)
        path = self.path.partition("?")[0]
        name = path.rpartition("/")[2]
        if path.startswith("/api/models/user/tiny/tree/"):
            listed = [{"type": "file", "path": file, "size": 1, "oid": COMMIT} for file in FILES]
            self.send(json.dumps(listed).encode(), body, "application/json")
        elif path.startswith("/api/models/user/tiny"):
            names = [{"rfilename": file} for file in FILES]
            about = {"id": "user/tiny", "sha": COMMIT, "siblings": names}
            self.send(json.dumps(about).encode(), body, "application/json")
        elif path.startswith("/user/tiny/resolve/") and name in FILES:
            file = UPSCALER / name
            content = file.read_bytes() if file.exists() else b"a file of the hub"
            self.send(content, body, "application/octet-stream")
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def send(self, content: bytes, body: bool, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_model_is_downloaded_once(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    code = "import sys; from tvqrap.pretrained.models import find_model\n"
    code += "model = find_model(sys.argv[1]); model.load(); print(model.path)"
    settings = {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}",
        "HF_HOME": str(tmp_path),
        "HF_HUB_DISABLE_XET": "1",
    }

    def found(name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, name],
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
        )

    first = found("hf:user/tiny")
    assert first.returncode == 0, first.stderr
    folder = Path(first.stdout.strip())
    assert sorted(path.name for path in folder.iterdir()) == list(FILES[:3])
    asked = len(Hub.asked)
    again = found("user/tiny")
    assert again.stdout == first.stdout and len(Hub.asked) == asked
    other = found("hf:user/none")
    assert "UserError: hf:user/none: cannot be downloaded (" in other.stderr


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"hf:user/tiny: .*pip install 'tvqrap\[hub\]'"):
        hub_folder("hf:user/tiny")
    with pytest.raises(UserError, match="user/tiny: no such path, and on the hub: huggingface_hub"):
        hub_folder("user/tiny")


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("models/rap").mkdir(parents=True)
    assert is_hub_name("hf:user/model") and is_hub_name("user/model@v1.0")
    for path in ("models/rap", "model", "a/b/c", "/models/rap", Path("user/model")):
        assert not is_hub_name(path)
    for wrong in ("hf:model", "hf:a/b/c", "hf:", "hf:a b/c"):
        with pytest.raises(UserError, match="expected hf:user/model"):
            hub_folder(wrong)
