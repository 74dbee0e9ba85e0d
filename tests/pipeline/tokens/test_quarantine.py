"""The quarantine: the files that a later run removes from it."""

from pathlib import Path

from pipeline.shards.tar import Sample
from pipeline.tokens.quarantine import BadSampleError, quarantine, sweep_quarantine


def test_only_files_of_samples_that_were_used_since_are_removed(tmp_path: Path) -> None:
    for key in ("bad_00000", "mended_00000"):
        sample = Sample(key, {"json": b"{}", "lr0.png": b"damaged"})
        quarantine(tmp_path, "000000.tar", sample, BadSampleError("its lr0.png does not decode"))
    for name in (".tvqrap.00000000.99.00000000.tmp", "thesis.docx", "notes.txt"):
        (tmp_path / name).write_text("someone's, or a dead writer's")
    sweep_quarantine(tmp_path, {"bad_00000"})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bad_00000.error.json",
        "bad_00000.json",
        "bad_00000.lr0.png",
        "notes.txt",
        "thesis.docx",
    ]
