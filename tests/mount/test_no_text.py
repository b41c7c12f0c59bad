"""What is no text, or not there at all, where ``idcfs mount`` expects some."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts.harness import IDCFS
from tests.mount.commands import idcfs
from tests.mount.conftest import NOWHERE, without_bugs

NO_TEXT = os.fsdecode(b"\xff")
OPTIONS = {
    "--layout": f"{NO_TEXT}%PatientID",
    "--where": f"Modality = '{NO_TEXT}'",
    "--collection": NO_TEXT,
    "--manifest": f"none{NO_TEXT}",
    "--index": f"index{NO_TEXT}",
    "--cache-dir": f"cache{NO_TEXT}",
}


@pytest.mark.parametrize("option", OPTIONS)
def test_what_is_no_utf_8_is_one_line(option: str, tmp_path: Path, sample_index: Path) -> None:
    shutil.copy(sample_index, tmp_path / f"index{NO_TEXT}")
    usual = ("--archive", NOWHERE, "--index", sample_index, "--cache-dir", tmp_path / "cache")
    with without_bugs(tmp_path / "state"):
        words = (*usual, option, OPTIONS[option])
        done = idcfs("mount", tmp_path / "mnt", *words, state=tmp_path / "state", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"idcfs: {option}")
    assert "codec" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "mnt").exists()


def test_a_manifest_on_a_stdin_that_is_closed_is_an_empty_one(tmp_path: Path, sample_index: Path) -> None:
    usual = ("--archive", NOWHERE, "--index", sample_index, "--cache-dir", tmp_path / "cache", "--manifest", "-")
    command = ["sh", "-c", 'exec "$@" <&-', "sh", *IDCFS, "mount", *map(str, (tmp_path / "mnt", *usual))]
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "idcfs: --manifest -: it lists no series\n")
