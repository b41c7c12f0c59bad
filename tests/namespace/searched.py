"""An archive that is searched, as tests have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import trio

from idcfs.errors import IdcfsError
from idcfs.settings import ArchiveSettings
from tests.namespace.making import Record

HERE = ArchiveSettings("here:8042", "http://here:8042/dicom-web")


@dataclass
class Server:
    """Lists ``records``; counts how often."""

    records: Sequence[Record] | IdcfsError = (Record(), Record("\ud800" * 100, "1.3", "1.3.1", None))
    calls: int = 0

    async def search(self) -> Sequence[Record]:
        await trio.lowlevel.checkpoint()
        self.calls += 1
        if isinstance(self.records, IdcfsError):
            raise self.records
        return self.records
