"""The picture of a session in the README, docs/session.svg: commands run on the sample archive, and what they print.

.venv/bin/python -m scripts.session [FILE]
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

from scripts.harness import Failure, program, scratch_directory
from scripts.sample import CHECKOUT, Home, sample_home

PICTURE = CHECKOUT / "docs" / "session.svg"
COLUMNS = 100
COMMANDS = [
    "cd ~/idc",
    "ls",
    "ls chest_twin/TWIN-CT-0001",
    "idcfs info rider_twin",
    "cd .uid/2.25.93472563122741614157436309194751190278",
    "ls | wc -l",
    'dcmdump +P Modality +P SliceLocation "$(ls | head -n 1)"',
    "dcm2niix -z n -f chest -o ~ . | tail -n 1",
    "ls -sh ~/chest.nii",
    "idcfs status ~/idc | grep -E 'wado requests|bytes from archive|hits'",
]
_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""rich's pictures ask another server for a font; any fixed one does, since each piece of text has its width."""


def main() -> int:
    return program("session", lambda: write(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE))


def write(target: Path) -> None:
    """Make the picture.

    :raises Failure: if it cannot be made.
    """
    with scratch_directory("idcfs-session-") as scratch, sample_home(scratch) as home:
        target.write_text(picture(home))
    print(f"wrote {target}")


def picture(home: Home) -> str:
    """An SVG of what ``COMMANDS`` print, one after the other.

    :raises Failure: if one of them fails.
    """
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    printed = home.session(COMMANDS)
    for command, (output, code) in zip(COMMANDS, printed, strict=True):
        if code:
            raise Failure(f"{command}: {output.strip()}")
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        if output:
            console.print(Text(output.rstrip()))
    svg = console.export_svg(title="idcfs: the sample archive", theme=DIMMED_MONOKAI, unique_id="session")
    return _FONT.sub("", svg)


if __name__ == "__main__":
    sys.exit(main())
