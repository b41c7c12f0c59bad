"""The option with which ``make matrix`` writes the table."""

from __future__ import annotations

import pytest

from tests.tools import table

OPTION = "--write-matrix"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(OPTION, action="store_true", help="write what comes of the idioms into docs/SEMANTICS.md")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say whether the table was written: only what all idioms come to, as promised, is."""
    if config.getoption(OPTION, default=False):
        is_written = config.stash.get(table.WRITTEN, False)
        said = "written" if is_written else "left as it is: not all idioms were run, or came to what is promised"
        terminalreporter.write_line(f"The table in docs/SEMANTICS.md is {said}.")
