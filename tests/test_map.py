"""The map in docs/ARCHITECTURE.md names every module."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

import idcfs

PACKAGE = Path(idcfs.__file__).parent
MAP = re.search(r"```text\n(.*?)```", (PACKAGE.parent / "docs" / "ARCHITECTURE.md").read_text(), re.DOTALL)


def test_every_module_has_its_place() -> None:
    assert MAP is not None
    named = re.findall(r"[\w*]+", MAP[1])
    modules = [path for path in PACKAGE.rglob("*.py") if not path.stem.startswith("__")]
    assert [str(path) for path in modules if not any(fnmatch(path.stem, name) for name in named)] == []
