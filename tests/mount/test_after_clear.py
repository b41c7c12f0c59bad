"""What a mount that runs through ``idcfs cache clear`` keeps afterwards."""

from __future__ import annotations

import subprocess
from pathlib import Path

from scripts.harness import IDCFS, Mount, run
from tests.mount.commands import warm
from tests.mount.conftest import MountMaker
from tests.mount.stage import contents, counters
from tests.twin.client import Twin


def clear(directory: Path) -> str:
    """Run the command; what it says on stderr."""
    command = [*IDCFS, "cache", "clear", "--cache-dir", str(directory)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stderr


def unmounted(made: Mount) -> None:
    run([*IDCFS, "umount", made.path])


def test_what_is_warmed_then_works_offline(
    mount: MountMaker, twin: Twin, sample: Path, sample_index: Path, tmp_path: Path
) -> None:
    made = mount(twin.url, "--index", sample_index)
    assert warm(made.path).returncode == 0
    assert clear(tmp_path / "cache") == ""
    requests = counters(made)["requests"]
    assert warm(made.path).returncode == 0
    assert counters(made)["requests"] == requests  # memory has it all
    unmounted(made)
    again = mount(twin.url, "--index", sample_index, "--offline")
    assert contents(again.path) == contents(sample)
    assert counters(again)["requests"] == 0


def test_a_single_file_too(mount: MountMaker, twin: Twin, sample: Path, sample_index: Path, tmp_path: Path) -> None:
    made = mount(twin.url, "--index", sample_index)
    file = min(made.path.glob("rider_twin/*/*/*/*.dcm"))
    file.read_bytes()
    clear(tmp_path / "cache")
    assert warm(file).returncode == 0
    unmounted(made)
    again = mount(twin.url, "--index", sample_index, "--offline")
    assert (again.path / file.relative_to(made.path)).read_bytes() == contents(sample)[file.stem]


def test_what_a_server_lists_is_not_written_again_and_clear_says_so(
    mount: MountMaker, twin: Twin, tmp_path: Path
) -> None:
    made = mount(twin.url, "--index", "qido")
    assert len(contents(made.path)) == 125
    said = f"idcfs: {made.path} does not write again what its server lists: mount it again before 'idcfs warm'\n"
    assert clear(tmp_path / "cache") == said
