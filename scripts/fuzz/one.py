"""``python -m scripts.fuzz.one TARGET [libFuzzer's arguments]``: fuzzes one target, in this process, to its end.

To be started by ``scripts.fuzz``: it has to be instrumented before anything of idcfs is imported.
"""

from __future__ import annotations

import logging
import sys

import atheris


def main() -> None:
    """Ends the process: with 0, or another code where an input has broken the target."""
    name, *arguments = sys.argv[1:]
    logging.getLogger().addHandler(logging.NullHandler())  # what is logged of a million inputs, nobody reads
    atheris.enabled_hooks.add("str")  # not "RegEx", which stumbles over patterns of other packages
    with atheris.instrument_imports(include=["idcfs"]):
        from tests.fuzz.targets import load

        target = load(name)
    atheris.Setup([name, *arguments], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
