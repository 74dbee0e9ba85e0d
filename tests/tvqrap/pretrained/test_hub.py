"""Models from the hub, by a server that answers as the hub does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.hub import running_hub
from tvqrap.pretrained.hub import hub_folder, is_hub_name
from tvqrap.pretrained.packaged import UPSCALER
from tvqrap.runtime.errors import UserError


def test_a_model_is_downloaded_once(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    code = "import sys; from tvqrap.pretrained.models import find_model\n"
    code += "model = find_model(sys.argv[1]); model.load(); print(model.path)"
    files = {path.name: path.read_bytes() for path in UPSCALER.iterdir()}
    files |= {"README.md": b"# tiny", "pickled.bin": b"a file of the hub"}
    with running_hub() as hub:
        hub.models["user/tiny"] = files
        settings = {
            "HF_ENDPOINT": hub.address,
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
        names = ["README.md", "model.json", "model.safetensors"]
        assert sorted(path.name for path in folder.iterdir()) == names
        asked = len(hub.asked)
        again = found("user/tiny")
        assert again.stdout == first.stdout and len(hub.asked) == asked
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
