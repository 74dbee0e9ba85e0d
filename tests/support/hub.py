"""A local server that answers as the Hugging Face Hub does: one user, models without history."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_token"


class Hub(ThreadingHTTPServer):
    """Models by name (`user/tiny`), each with its files by name."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.asked: list[str] = []
        """Paths of all requests."""
        self.commits: list[str] = []
        """Messages."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()
    Thread(target=hub.serve_forever, daemon=True).start()
    yield hub
    hub.shutdown()
    hub.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        self.server.asked.append(self.path)
        parts = self.path.partition("?")[0].strip("/").split("/")
        about = parts[:2] == ["api", "models"]
        model = "/".join(parts[2:4] if about else parts[:2])
        files = self.server.models.get(model)
        if files is None:
            self.refuse("RepoNotFound")
        elif about and parts[4:5] == ["tree"]:
            listed = [{"type": "file", "path": name, "size": 1, "oid": COMMIT} for name in files]
            self.send_json(listed, body)
        elif about:
            names = [{"rfilename": name} for name in files]
            private = model in self.server.private
            self.send_json(
                {"id": model, "sha": COMMIT, "siblings": names, "private": private}, body
            )
        elif parts[2:3] == ["resolve"] and parts[-1] in files:
            self.send(files[parts[-1]], body, "application/octet-stream")
        else:
            self.refuse("EntryNotFound")

    def do_POST(self) -> None:
        self.server.asked.append(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = self.path.partition("?")[0].strip("/").split("/")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.refuse("Unauthorized", 401)
        elif parts == ["api", "validate-yaml"]:
            self.send_json({"errors": [], "warnings": []})
        elif parts == ["api", "repos", "create"]:
            self.create(json.loads(content))
        elif parts[4] == "preupload":
            files = json.loads(content)["files"]
            modes = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in files
            ]
            self.send_json({"files": modes})
        elif parts[4] == "commit":
            self.commit("/".join(parts[2:4]), [json.loads(line) for line in content.splitlines()])
        else:
            self.refuse("NotFound")

    def create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        there = name in self.server.models
        self.server.models.setdefault(name, {})
        if not there and (wanted.get("visibility") == "private" or wanted.get("private")):
            self.server.private.add(name)
        self.send_json({"url": f"{self.server.address}/{name}"}, status=409 if there else 200)

    def commit(self, model: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.server.commits.append(value["summary"])
            else:
                assert (line["key"], value["encoding"]) == ("file", "base64")
                self.server.models[model][value["path"]] = base64.b64decode(value["content"])
        url = f"{self.server.address}/{model}/commit/{COMMIT}"
        self.send_json({"success": True, "commitOid": COMMIT, "commitUrl": url})

    def send_json(self, content: Any, body: bool = True, status: int = 200) -> None:
        self.send(json.dumps(content).encode(), body, "application/json", status)

    def send(self, content: bytes, body: bool, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def refuse(self, code: str, status: int = 404) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass
