"""The fuzzer that is guided by coverage: it finds what is wrong, says how to repeat it, and finds nothing today."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS
from tests.waiting import eventually

CHECKOUT = Path(__file__).parents[2]
RUNS = 200
"""Inputs for each target, the same ones every time: as many as take a tenth of a second, or a second."""
SENT = [name for name, module in TARGETS.items() if module in ("answers", "documents", "instances")]
"""What archives send. The others take as long again: ``make fuzz`` has them too."""


def fuzz(keep: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.fuzz", f"--keep={keep}", *words]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)


def test_a_few_inputs_of_each_target_break_nothing(tmp_path: Path) -> None:
    done = fuzz(tmp_path, f"--runs={RUNS}", *SENT)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == SENT
    assert all(int(line[1].replace(",", "")) >= RUNS and int(line[3]) > 0 for line in lines), done.stdout


def test_what_is_no_target_is_refused(tmp_path: Path) -> None:
    done = fuzz(tmp_path, "nothing")
    assert done.returncode == 2
    assert "no such target: nothing; there are " in done.stderr


@pytest.mark.parametrize("words", [("--minutes", "nan"), ("--minutes", "inf"), ("--keep", "/dev/null/x")], ids=str)
def test_what_makes_no_sense_is_refused(tmp_path: Path, words: tuple[str, str]) -> None:
    done = fuzz(tmp_path, *words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=str)
def test_the_target_ends_with_who_fuzzes_it(tmp_path: Path, number: signal.Signals, code: int) -> None:
    command = [sys.executable, "-m", "scripts.fuzz", f"--keep={tmp_path}", "boundary"]
    with subprocess.Popen(command, cwd=CHECKOUT, stderr=subprocess.PIPE, text=True) as fuzzer:
        children = Path(f"/proc/{fuzzer.pid}/task/{fuzzer.pid}/children")
        assert eventually(lambda: bool(children.read_text()))
        (child,) = children.read_text().split()
        fuzzer.send_signal(number)
        assert "Traceback" not in fuzzer.communicate()[1]
    assert fuzzer.returncode == code
    assert eventually(lambda: not Path(f"/proc/{child}").exists())  # killed, but nobody may have waited for it yet


@pytest.fixture
def broken_target(tmp_path: Path) -> Path:
    """A place before all others in which Python finds idcfs' names, one of them with a mistake in it."""
    site = tmp_path / "sitecustomize.py"
    site.write_text(
        "import sys\n"
        "if 'idcfs.layout' not in sys.modules:\n"
        "    import idcfs.nearest\n"
        "    idcfs.nearest.did_you_mean = lambda *words: 1 // 0\n"
    )
    return tmp_path


def test_what_breaks_a_target_is_kept_and_can_be_repeated(
    broken_target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{broken_target}:{CHECKOUT}")
    done = fuzz(tmp_path / "kept", "layout", "--runs=5000")
    assert done.returncode == 1
    assert "BROKEN" in done.stdout
    assert "ZeroDivisionError" in done.stderr
    (found,) = (tmp_path / "kept" / "layout" / "found").iterdir()
    assert f"-m scripts.fuzz layout --repeat {found}" in done.stderr
    again = fuzz(tmp_path / "kept", "layout", "--repeat", str(found))
    assert again.returncode == 1
    assert "ZeroDivisionError" in again.stderr
