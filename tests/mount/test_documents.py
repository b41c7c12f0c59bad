"""The examples of the documents do what they show, on a mount of the sample archive at ``~/idc``.

Every fenced block of ``console`` or ``python`` is run, each for itself; what cannot be run here is fenced as ``sh`` or
``text``. In a console block a line with ``$`` is a command of bash, and what stands below is what it prints, on stdout
and stderr: with ``~`` for the home directory, ``…`` for any text of a line and a line of ``…`` for any lines. A command
without output has to succeed. In a Python block what is printed stands in comments, ``# → …``.

Not doctest or Sybil: neither knows a shell's session, and what is left without that are the few lines below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.sample import Home, sample_home
from tests.mount.conftest import without_bugs

CHECKOUT = Path(__file__).parents[2]
DOCUMENTS = ["README.md", *sorted(str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROMPT = re.compile(r"^\$ ((?:.*\\\n)*.*)\n?", re.MULTILINE)
PRINTED = re.compile(r"# → (.*)")


@dataclass(frozen=True, slots=True)
class Block:
    place: str
    """``README.md:12``"""
    language: str
    text: str


def blocks() -> Iterator[Block]:
    for document in DOCUMENTS:
        text = (CHECKOUT / document).read_text()
        for found in FENCE.finditer(text):
            if found[1] in ("console", "python"):
                yield Block(f"{document}:{text.count(chr(10), 0, found.start()) + 1}", found[1], found[2])


BLOCKS = list(blocks())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """One home for all examples: none may depend on what another has left."""
    place = tmp_path_factory.mktemp("documents")
    with without_bugs(place / "home" / ".local" / "state"), sample_home(place) as home:
        yield home


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_an_example_does_what_it_shows(block: Block, home: Home) -> None:
    {"console": check_console, "python": check_python}[block.language](block.text, home)


def test_each_document_that_shows_commands_is_looked_at() -> None:
    shown = {block.place.partition(":")[0] for block in BLOCKS}
    assert {"README.md", "docs/SEMANTICS.md"} <= shown


def check_console(text: str, home: Home) -> None:
    _, *parts = PROMPT.split(text)
    commands, expected = parts[::2], parts[1::2]
    printed = home.session(commands)
    for command, pattern, (output, code) in zip(commands, expected, printed, strict=False):
        if not agree(pattern, output):
            pytest.fail(f"$ {command}\n{output}--- instead of\n{pattern}", pytrace=False)
        if code and not pattern.strip():
            pytest.fail(f"$ {command}\nended with {code}", pytrace=False)
    assert 0 < len(printed) == len(commands)


def check_python(text: str, home: Home) -> None:
    expected = "".join(f"{line}\n" for line in PRINTED.findall(text))
    output = home.run(["python3", "-c", text])
    if not agree(expected, output):
        pytest.fail(f"{output}--- instead of\n{expected}", pytrace=False)


def agree(expected: str, output: str) -> bool:
    """Whether ``output`` is as it is shown; how many blanks stand somewhere does not matter."""
    pattern = "".join(_line_pattern(line) for line in _lines(expected))
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in _lines(output))) is not None


def _lines(text: str) -> list[str]:
    return [re.sub(" +", " ", line).rstrip() for line in text.rstrip().splitlines()]


def _line_pattern(line: str) -> str:
    if line.strip() == "…":
        return "(?:.*\n)*"
    return ".*".join(re.escape(part) for part in line.split("…")) + "\n"
