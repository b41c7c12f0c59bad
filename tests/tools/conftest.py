"""The option with which ``make matrix`` writes the table."""

from __future__ import annotations

import pytest

OPTION = "--write-matrix"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(OPTION, action="store_true", help="write what comes of the idioms into docs/SEMANTICS.md")
