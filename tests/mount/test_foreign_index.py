"""An archive of one's own below the IDC's index: the mount is made, and says what it lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.harness import is_mounted
from tests.mount.commands import idcfs
from tests.mount.conftest import NOWHERE, logs

SAID = "what is listed is the IDC, not what 127.0.0.1:9 has: for that, give --index qido"


@pytest.mark.parametrize(
    ("options", "is_told"),
    [(("--archive", NOWHERE), True), (("--archive", NOWHERE, "--index", "qido"), False), ((), False)],
)
def test_the_idc_is_said_to_be_what_a_foreign_archive_lists(
    options: tuple[str, ...], is_told: bool, tmp_path: Path, packaged_cache: Path
) -> None:
    place = tmp_path.resolve() / "mnt"
    done = idcfs("mount", place, *options, "--cache-dir", packaged_cache, state=tmp_path / "state")
    try:
        assert (done.returncode, done.stderr) == (0, f"idcfs: {SAID}\n" if is_told else "")
        assert (SAID in logs(tmp_path / "state")) == is_told
        assert is_mounted(place)
    finally:
        idcfs("umount", place)
