"""Words that bash completes, with what ``idcfs completion bash`` prints."""

from __future__ import annotations

import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from idcfs import mounts
from idcfs.commands import completing
from idcfs.namespace.index import catalog_path
from idcfs.settings import PACKAGED
from tests.mount.commands import idcfs, read_terminal
from tests.mount.conftest import NOWHERE, MountMaker
from tests.unprivileged import NOBODY
from tests.waiting import PATIENCE_SECONDS


def completed(*words: str) -> list[str]:
    """What bash offers for the last of ``words``."""
    script = f"""
        eval "$(idcfs completion bash)"
        complete -p idcfs >/dev/null || exit 1
        COMP_WORDS=({shlex.join(words)})
        COMP_CWORD={len(words) - 1}
        _idcfs_completion idcfs
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split()


def test_commands_options_and_choices() -> None:
    assert completed("idcfs", "st") == ["status"]
    assert completed("idcfs", "cache", "ve") == ["verify"]
    assert completed("idcfs", "mount", "--idc") == ["--idc-version"]
    assert completed("idcfs", "mount", "--content", "") == ["auto", "wado", "bucket"]
    assert completed("idcfs", "completion", "z") == ["zsh"]


@pytest.mark.parametrize("command", [("umount",), ("status",), ("warm",), ("doctor",), ("path", "--mount")], ids=str)
def test_places_of_mounts(command: tuple[str, ...], mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    assert str(made.path) in completed("idcfs", *command, "")
    assert completed("idcfs", *command, str(made.path)[:-1]) == [str(made.path)]


def test_places_in_the_home_directory(
    mount: MountMaker, sample_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount(NOWHERE, "--index", sample_index)
    monkeypatch.setenv("HOME", str(tmp_path.resolve()))
    assert completed("idcfs", "umount", "~/") == ["~/mnt"]


def test_collections_of_an_index_that_was_mounted(sample_catalog: Path, tmp_path: Path) -> None:
    words = ("idcfs", "mount", "--cache-dir", str(tmp_path), "--collection")
    assert completed(*words, "") == []
    catalog_path(PACKAGED, tmp_path).write_bytes(sample_catalog.read_bytes())
    assert completed(*words, "") == ["chest_twin", "rider_twin"]
    assert completed(*words, "ri") == ["rider_twin"]


def test_collections_of_the_index_that_the_settings_name(
    sample_index: Path, sample_catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config" / "idcfs").mkdir(parents=True)
    file = tmp_path / "config" / "idcfs" / "config.toml"
    file.write_text(f'cache-dir = "{tmp_path}"\nindex = "{sample_index}"')
    catalog_path(str(sample_index), tmp_path).write_bytes(sample_catalog.read_bytes())
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    words = ("idcfs", "mount", "--collection", "")
    assert completed(*words) == ["chest_twin", "rider_twin"]
    assert completed("idcfs", "mount", "--index", "packaged", "--collection", "") == []
    monkeypatch.setenv("IDCFS_CACHE_DIR", str(tmp_path / "elsewhere"))
    assert completed(*words) == []
    file.write_text("nonsense")
    assert completed(*words) == []


def typed(line: str, cwd: Path) -> None:
    """Somebody types ``line``, Tabs in it, into bash at a terminal, and then leaves."""
    terminal, other = pty.openpty()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],
        cwd=cwd,
        env={**os.environ, "PATH": path, "TERM": "dumb", "HISTFILE": ""},
        stdin=other,
        stdout=other,
        stderr=other,
        start_new_session=True,
    ) as bash:
        os.close(other)
        os.write(terminal, f'eval "$(idcfs completion bash)"\n{line}\nexit\n'.encode())
        while read_terminal(terminal):
            pass
        bash.wait(PATIENCE_SECONDS)
    os.close(terminal)


def test_no_directorys_name_is_run_in_a_shell_that_completes_it(
    mount: MountMaker, sample_index: Path, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    mount(NOWHERE, "--index", sample_index, at="there/x$(touch ran)")
    typed(f"idcfs status {tmp_path.resolve()}/there/\t", tmp_path)
    mount(NOWHERE, "--index", sample_index, at="plain")
    typed(f"idcfs status {tmp_path.resolve()}/pl\t>said", tmp_path)
    assert not (tmp_path / "ran").exists()
    assert str(tmp_path.resolve() / "plain") in (tmp_path / "said").read_text()


def test_what_a_shell_might_run_is_not_offered() -> None:
    offered = ["/a;b", "/a'b", '/a"b', "/a*", "/a\\b", "/ü", "a b", "$(id)", "`id`", "=id", "~id", "-f", "%1"]
    offered += ["x\ny", "{a,b}", "tcga_luad", "4d-lung"]
    assert [one.value for one in completing._starting_with("", offered)] == ["4d-lung", "tcga_luad"]


def test_mounts_of_others_are_not_offered(
    mount: MountMaker, sample_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    assert made.path in mounts.own_idcfs_mounts()
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    assert made.path not in mounts.own_idcfs_mounts()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script_too(shell: str) -> None:
    done = idcfs("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"_IDCFS_COMPLETE={shell}_complete" in done.stdout


def test_no_other_shell_is_known() -> None:
    done = idcfs("completion", "tcsh")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
