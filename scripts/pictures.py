"""The picture of pictures in the README, docs/pictures.png: a file manager on ``/.rendered`` of a real archive.

    apt-get install --no-install-recommends pcmanfm xvfb imagemagick
    .venv/bin/python -m scripts.pictures [FILE]

Orthanc renders the sample archive, and PCManFM shows what a mount of that has, on a virtual screen.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from scripts.harness import Failure, program, run, scratch_directory
from scripts.sample import CHECKOUT, Home, home_over, make_sample
from tests.orthanc import Orthanc

PICTURE = CHECKOUT / "docs" / "pictures.png"
SHOWN = ".rendered/chest_twin/TWIN-CT-0001"
WIDTH, HEIGHT = 1000, 560
PATIENCE_SECONDS = 60.0
CONFIGURATION = {
    "libfm/libfm.conf": "[config]\nthumbnail_local=1\n[ui]\nshow_thumbnail=1\nthumbnail_size=128\nbig_icon_size=128\n",
    "pcmanfm/default/pcmanfm.conf": f"[ui]\nalways_show_tabs=0\nwin_width={WIDTH}\nwin_height={HEIGHT}\n"
    "side_pane_mode=hidden;places\nview_mode=thumbnail\npathbar_mode_buttons=1\ntoolbar=navigation;home;\n",
}
"""PCManFM's, below ~/.config: a window as large as the screen, and nothing but pictures in it."""


def main() -> int:
    return program("pictures", lambda: write(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE))


def write(target: Path) -> None:
    """Make the picture.

    :raises Failure: if it cannot be made.
    """
    with scratch_directory("idcfs-pictures-") as scratch, Orthanc() as archive:
        source, index = make_sample(scratch)
        archive.upload_all(source.rglob("*.dcm"))
        with home_over(archive.url, index, scratch) as home:
            photograph(home, target)
    print(f"wrote {target}")


def photograph(home: Home, target: Path) -> None:
    """Let the file manager show a series, and write down what is on its screen once nothing changes there any more.

    :raises Failure: if something changes for a minute, or a program is missing.
    """
    for name, text in CONFIGURATION.items():
        path = home.path / ".config" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    series = max((home.path / "idc" / SHOWN).glob("*/*"), key=lambda path: len(os.listdir(path)))
    with screen(home.env) as env, started(["pcmanfm", "--no-desktop", str(series)], env):
        deadline = time.monotonic() + PATIENCE_SECONDS
        before = b""
        while time.monotonic() < deadline:
            time.sleep(3)
            run(["import", "-window", "root", "-depth", "8", "-colors", "128", f"png8:{target}"], env=env)
            if target.read_bytes() == before:
                return
            before = target.read_bytes()
    raise Failure("the screen does not come to rest")


@contextlib.contextmanager
def screen(env: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """A virtual screen; gives the environment of programs that are to appear on it."""
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{WIDTH}x{HEIGHT}x24", "-nolisten", "tcp"]
    with started(command, env, pass_fds=(write,)):
        os.close(write)
        with os.fdopen(read) as told:
            number = told.readline().strip()
        if not number:
            raise Failure("Xvfb did not start")
        yield {**env, "DISPLAY": f":{number}"}


@contextlib.contextmanager
def started(command: list[str], env: Mapping[str, str], pass_fds: tuple[int, ...] = ()) -> Iterator[None]:
    """A program that runs meanwhile.

    :raises Failure: if it is not installed.
    """
    quiet = subprocess.DEVNULL
    try:
        process = subprocess.Popen(command, env=env, stdin=quiet, stdout=quiet, stderr=quiet, pass_fds=pass_fds)
    except FileNotFoundError:
        raise Failure(f"{command[0]} is not installed") from None
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=15)


if __name__ == "__main__":
    sys.exit(main())
