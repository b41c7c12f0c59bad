"""The first machine: the filesystem over all that stands below it, without the kernel and the network, in no time."""

from __future__ import annotations

from pathlib import Path

from hypothesis.stateful import run_state_machine_as_test

from tests.model.depth import depth
from tests.model.house import House
from tests.model.machine import Machine
from tests.model.stored import write_index
from tests.namespace.making import built


def test_without_the_kernel(tmp_path: Path) -> None:
    index = write_index(tmp_path / "index.parquet")
    catalog = built(index, tmp_path)

    class Filesystems(Machine):
        """``House`` as face."""

        def make_face(self) -> House:
            return House(index, catalog)

    run_state_machine_as_test(Filesystems, settings=depth(short=12, steps=40, share=1))
