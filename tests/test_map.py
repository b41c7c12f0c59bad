"""The map in docs/ARCHITECTURE.md names every module where it stands, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import idcfs

PACKAGE = Path(idcfs.__file__).parent
MAP = re.search(r"```text\n(.*?)```", (PACKAGE.parent / "docs" / "ARCHITECTURE.md").read_text(), re.DOTALL)


def rows() -> dict[str, str]:
    """What the map says, by what a row begins with."""
    assert MAP is not None
    joined = re.sub(r"\n +", " ", MAP[1]).splitlines()
    return dict(line.split(maxsplit=1) for line in joined)


def test_every_module_has_its_place() -> None:
    said = rows()
    lists = {"": f"{said.pop('helpers')} {said.pop('leaves')}"}
    lists |= {name.rstrip("/"): said.pop(name) for name in list(said) if name.endswith("/")}
    lists[""] += " · " + " · ".join(said)
    for directory, words in lists.items():
        modules = {path.stem for path in (PACKAGE / directory).glob("*.py") if not path.stem.startswith("__")}
        missing = {one for one in modules if not re.search(rf"\b{one}\b", words)}
        assert not missing, directory
        listed = set(re.findall(r"(\w+)(?= ·)|(?<=· )(\w+)", words))
        assert {one for pair in listed for one in pair if one} <= modules | {"path"}, directory
