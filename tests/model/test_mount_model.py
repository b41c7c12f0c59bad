"""The second machine: a real mount, its archive a server, both of them processes."""

from __future__ import annotations

from pathlib import Path

from hypothesis.stateful import rule, run_state_machine_as_test

from tests.model.depth import depth
from tests.model.kernel import KernelFace
from tests.model.machine import Machine
from tests.model.stored import write_index
from tests.namespace.making import built


def test_through_the_kernel(tmp_path: Path) -> None:
    index = write_index(tmp_path / "index.parquet")
    catalog = built(index, tmp_path)

    class Mounts(Machine):
        """``KernelFace`` as face."""

        face: KernelFace
        max_waiting = 0.6
        hangs = False

        def make_face(self) -> KernelFace:
            return KernelFace(index, catalog)

        @rule()
        def kill(self) -> None:
            """As a machine that loses power does, but for what the disk has not written."""
            self.close_all()
            self.reference.forget_kept()
            self.reference.forget_lists()
            self.reference.begin_mount()
            self.face.kill()

    run_state_machine_as_test(Mounts, settings=depth(short=2, steps=30, share=10))
