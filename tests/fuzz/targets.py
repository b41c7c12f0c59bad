"""What is fuzzed: everything that reads what others wrote, each as a function that takes bytes.

A target is called with any bytes at all. It raises nothing, unless something is wrong: what is read with must raise
nothing but the errors that it says it raises, and what it accepts has to be what it says it is. Two engines call the
same targets: hypothesis with what is nearly valid (``test_*.py`` beside this), and a fuzzer that is guided by coverage
(``python -m scripts.fuzz``). What either has found stands in ``corpus/<target>/``, and is tried again by
``test_corpus.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import cast

CORPUS = Path(__file__).parent / "corpus"
"""Inputs, one a file, in a directory for each target."""

_MODULES = {
    "answers": ("boundary", "body", "error", "multipart", "packed", "response"),
    "documents": ("metadata", "picture", "qido", "s3"),
    "indexes": ("layout", "manifest", "name", "parquet"),
    "instances": ("file_meta", "identity"),
    "kept": ("blocks", "catalog", "lists", "one_block"),
    "own": ("config", "login", "status", "token"),
}
"""The modules beside this one, and the targets in each."""
TARGETS = {target: module for module, targets in _MODULES.items() for target in targets}
"""The module of each target, by the target's name."""

Target = Callable[[bytes], None]


def load(name: str) -> Target:
    """The target ``name``. What it calls is imported only now, so that who measures coverage can prepare for that."""
    return cast("Target", getattr(import_module(f"{__package__}.{TARGETS[name]}"), name))


def corpus(name: str) -> list[Path]:
    """The inputs of the target ``name`` that are kept, in the order of their names."""
    return sorted((CORPUS / name).iterdir())
