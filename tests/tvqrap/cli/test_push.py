"""`tvqrap-cli push` and `card`: to a server that answers as the hub does."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from safetensors import safe_open

from tests.support.commands import run
from tests.support.hub import TOKEN, Hub, running_hub
from tvqrap.pretrained.folder import read_config
from tvqrap.pretrained.upscaler import load_upscaler


def front_matter(card: str) -> dict[str, Any]:
    _, head, _ = card.split("---\n", 2)
    values: dict[str, Any] = YAML(typ="safe", pure=True).load(head)
    return values


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "tiny"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    pytest.importorskip("huggingface_hub")
    with running_hub() as hub:
        # The library reads its environment once, when the first test of a process imports it.
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            hub.address + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


class TestPush:
    def test_card_and_files(self, hub: Hub, folder: Path, tmp_path: Path) -> None:
        result = run("push", folder, "user/new", "--license", "apache-2.0", "--private")
        assert result.exit_code == 0, result.output
        assert result.output.startswith(f"{hub.address}/user/new/commit/")
        assert hub.private == {"user/new"} and len(hub.commits) == 1
        files = hub.models["user/new"]
        assert sorted(files) == ["README.md", "model.json", "model.safetensors"]
        card = files["README.md"].decode()
        about = front_matter(card)
        assert about["license"] == "apache-2.0" and about["library_name"] == "tvqrap"
        assert about["pipeline_tag"] == "image-to-image" and "super-resolution" in about["tags"]
        assert "Upscaler.from_pretrained('user/new')" in card
        copied = tmp_path / "copied"
        copied.mkdir()
        for name, content in files.items():
            (copied / name).write_bytes(content)
        load_upscaler(copied)  # checks the weights by their fingerprint
        with safe_open(copied / "model.safetensors", framework="pt") as opened:
            assert opened.metadata()["modelspec.architecture"] == "tvqrap"

    def test_cards_that_people_wrote_stay(self, hub: Hub, folder: Path) -> None:
        assert run("push", folder, "user/new").exit_code == 0
        hub.models["user/new"]["README.md"] = b"# On the hub"
        assert run("push", folder, "user/new").exit_code == 0
        assert hub.models["user/new"]["README.md"] == b"# On the hub"
        (folder / "README.md").write_text("# Mine")
        assert run("push", folder, "user/new").exit_code == 0
        assert hub.models["user/new"]["README.md"] == b"# Mine"
        result = run("push", folder, "user/new", "--license", "mit")
        assert result.exit_code == 2 and "README.md is the card" in result.output

    def test_a_public_repository_is_not_private(self, hub: Hub, folder: Path) -> None:
        hub.models["user/new"] = {}
        result = run("push", folder, "user/new", "--private")
        assert result.exit_code == 1 and "is a public repository" in result.output
        assert hub.models["user/new"] == {}

    def test_what_is_missing_is_one_line(
        self, hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def failed(message: str, *words: object) -> None:
            result = run("push", *(words or (folder, "user/new")))
            assert result.exit_code in (1, 2) and message in result.output, result.output
            assert len(result.output.splitlines()) == 1
            assert hub.models == {}

        failed("user: expected a repository on the hub", folder, "user")
        failed("none: no such folder", tmp_path / "none", "user/new")
        failed("no model there", tmp_path, "user/new")
        failed("--license is 'my own'", folder, "user/new", "--license", "my own")
        monkeypatch.setenv("HF_TOKEN", "hf_another")
        failed("error: hf:user/new: cannot be uploaded (")
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
        failed("error: hf:user/new: cannot be uploaded (")
        monkeypatch.delenv("HF_TOKEN")
        failed("hf:user/new: no access token of the hub, expected one by `hf auth login`")
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
        failed("hf:user/new: huggingface_hub is not installed; pip install 'tvqrap[hub]'")
        (folder / "model.safetensors").write_bytes(b"broken")
        failed("model.safetensors: not readable as safetensors")


class TestCard:
    def test_scores_where_there_are_some(self, folder: Path) -> None:
        plain = run("card", folder)
        assert plain.exit_code == 0 and "## Scores" not in plain.output
        assert "license" not in front_matter(plain.output)
        config = read_config(folder)
        assert f"`{config.fingerprint[:12]}`" in plain.output
        means = {"bicubic": {"psnr_y": 25.69}, "mine": {"psnr_y": 26.104, "fsim": 0.81}}
        (folder / "metrics.json").write_text(json.dumps(means))
        assert run("card", folder, "-o", folder / "README.md").exit_code == 0
        lines = (folder / "README.md").read_text().splitlines()
        assert "| method | PSNR-Y ↑ | FSIM ↑ |" in lines
        assert "| bicubic | 25.69 |  |" in lines and "| mine | 26.10 | 0.8100 |" in lines
        again = run("card", folder, "-o", folder / "README.md")
        assert again.exit_code == 1 and "--overwrite replaces it" in again.output
        (folder / "metrics.json").write_text("[1]")
        result = run("card", folder)
        assert result.exit_code == 1
        assert "metrics.json: expected the means that tvqrap-cli evaluate writes" in result.output

    def test_no_extra_is_needed(self, folder: Path) -> None:
        (folder / "metrics.json").write_text('{"mine": {"psnr_y": 26.1}}')
        code = "import sys\n"
        code += "for name in ('scipy', 'pyiqa', 'huggingface_hub'): sys.modules[name] = None\n"
        code += "from tvqrap.cli.main import app; app(sys.argv[1:])"
        command = [sys.executable, "-c", code, "card", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
        assert done.returncode == 0 and "| mine | 26.10 |" in done.stdout, done.stderr

    def test_openmodeldb(self, folder: Path, tmp_path: Path) -> None:
        file = tmp_path / "4x-tiny.safetensors"
        words = ("--format", "safetensors", "--model", folder, "-o", file)
        assert run("export", *words).exit_code == 0
        url = "https://example.org/4x-tiny.safetensors"
        words = ("--openmodeldb", "--author", "some-one", "--url", url, "--license", "Apache-2.0")
        result = run("card", file, *words)
        assert result.exit_code == 0, result.output
        entry = json.loads(result.output)
        # The keys that every entry of data/models in OpenModelDB's repository has.
        required = "name author license tags description date architecture size scale "
        required += "inputChannels outputChannels resources images"
        assert set(entry) == set(required.split())
        assert (entry["name"], entry["scale"], entry["author"]) == ("4x-tiny", 4, "some-one")
        (resource,) = entry["resources"]
        content = file.read_bytes()
        assert resource["sha256"] == hashlib.sha256(content).hexdigest()
        assert (resource["size"], resource["urls"]) == (len(content), [url])
        assert (resource["platform"], resource["type"]) == ("pytorch", "safetensors")
        weights = run("card", folder / "model.safetensors", *words)
        assert weights.exit_code == 1 and "export --format safetensors writes" in weights.output

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (("--openmodeldb", "--url", "https://a"), "--author is None, expected letters"),
            (("--openmodeldb", "--author", "a b"), "--author is 'a b'"),
            (("--openmodeldb", "--author", "a", "--url", "file"), "--url: expected the address"),
            (("--author", "a"), "no meaning without --openmodeldb"),
            (("--license", "a: b"), "--license is 'a: b'"),
        ],
    )
    def test_wrong_use(self, folder: Path, words: tuple[str, ...], message: str) -> None:
        result = run("card", folder, *words)
        assert result.exit_code == 2 and message in result.output
