"""The machine's mount(8), which knows the type ``idcfs`` for as long as a test runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.harness import detach
from tests.mount.commands import ended

PLACE = Path("/sbin/mount.idcfs")
"""Where mount(8) looks for it."""
CHECKOUT = Path(__file__).resolve().parents[2]
_SCRIPT = f"""#!{sys.executable}
import sys
sys.path.insert(0, {str(CHECKOUT)!r})
from idcfs.mount_helper import main
main()
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where mount(8) finds ``mount.idcfs``."""

    home: Path
    """A directory of this test's own, for all that mounts keep."""
    index: Path

    def run(
        self, *words: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, such as mount(8), to its end."""
        places = {f"XDG_{name}_HOME": str(self.home / name.lower()) for name in ("STATE", "CACHE", "CONFIG")}
        return ended(*words, cwd=cwd, env={**os.environ, **places} if env is None else env)

    def mount(self, spec: str, place: Path, *options: str) -> subprocess.CompletedProcess[str]:
        """``mount -t idcfs SPEC PLACE -o OPTIONS``, of the sample index unless told otherwise."""
        return self.run("mount", "-t", "idcfs", spec, place, "-o", ",".join([f"index={self.index}", *options]))

    def fstab(self, *lines: Sequence[str | Path]) -> Path:
        """A file of these lines, each of SPEC, directory and options."""
        file = self.home / "fstab"
        file.write_text("".join(f"{spec} {place} idcfs {options} 0 0\n" for spec, place, options in lines))
        return file


@contextlib.contextmanager
def machine_with_helper(home: Path, index: Path) -> Iterator[Machine]:
    """One process at a time, with what was installed there before put back at the end, and nothing left mounted."""
    script = home / "mount.idcfs"
    script.write_text(_SCRIPT)
    script.chmod(0o755)
    directory = os.open(PLACE.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        assert PLACE.is_symlink() or not PLACE.exists(), f"{PLACE} is no link: it would be lost"
        before = (
            os.readlink(PLACE) if PLACE.exists() else None
        )  # not one of a test that was killed, which leads nowhere
        _link(str(script))
        try:
            yield Machine(home, index)
        finally:
            _link(before)
            for place in home.iterdir():
                detach(place)
    finally:
        os.close(directory)


def _link(target: str | None) -> None:
    PLACE.unlink(missing_ok=True)
    if target is not None:
        PLACE.symlink_to(target)
