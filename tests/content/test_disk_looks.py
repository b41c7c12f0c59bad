"""What the disk tier looks up while it writes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import trio

from idcfs.content.disk_store import BlockStore
from idcfs.errors import Damaged
from tests.content.on_disk import DATA, KEY, running, settled


@pytest.mark.parametrize("look", ["look_up_series", "look_up"])
async def test_a_block_that_is_written_during_a_look_up_is_known_after_it(
    look: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if look == "look_up":  # which is asked only where a series is too long
        monkeypatch.setattr("idcfs.content.disk._SERIES_BLOCKS", 0)
    found = threading.Event()
    go_on = threading.Event()
    plain = getattr(BlockStore, look)

    def slow(*of: object) -> object:
        result = plain(*of)
        found.set()
        go_on.wait(10)
        return result

    monkeypatch.setattr(BlockStore, look, slow)
    async with running(tmp_path) as tier, trio.open_nursery() as nursery:
        nursery.start_soon(tier.load, KEY)
        await trio.to_thread.run_sync(found.wait, 10)  # nothing is kept, as far as that goes
        tier.put(KEY, 0, DATA)
        await settled(tier)
        go_on.set()
        await tier.load(KEY)
        assert tier.has(KEY, 0)
        with pytest.raises(Damaged):
            tier.put(KEY, 0, DATA[::-1])
