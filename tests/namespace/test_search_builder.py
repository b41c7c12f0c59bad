"""The catalog of what an archive lists is built by another process, whatever becomes of that one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import astuple
from pathlib import Path

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from idcfs.errors import IdcfsError, UsageError
from idcfs.namespace import index
from idcfs.namespace.catalog import Catalog
from idcfs.namespace.columns import read_records
from idcfs.namespace.index import search_catalog
from tests.namespace.making import Record, any_text, hostile, patient
from tests.namespace.searched import HERE, Server
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a shell script of what is given: the builder from then on."""

    def make(script: str) -> None:
        path = tmp_path / "builder"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(path))

    return make


def parsed(lines: Sequence[bytes]) -> tuple[str, list[tuple[object, ...]]]:
    collection, records = read_records(lines)
    return collection, [tuple(record) for record in records]


@patient
@given(
    any_text,
    st.lists(st.builds(Record, hostile(any_text), any_text, any_text, st.none() | st.integers(), *[any_text] * 5)),
)
@example("a\ud83d\ude00", [Record("\ud83d\ude00\U0001f600\n\r\x85\u2028\0")] * 1_001)
def test_what_is_listed_reaches_the_builder_as_it_is(archive: str, records: list[Record]) -> None:
    lines = b"".join(index._lines(archive, records)).splitlines(keepends=True)
    assert parsed(lines) == (
        archive,
        [astuple(one) for one in records],
    )


def test_a_list_that_ends_early_is_not_taken_for_all_there_is() -> None:
    whole = b"".join(index._lines("here", [Record("é\ud800")] * 1_001))
    for length in (*range(300), *range(len(whole) - 60, len(whole) - 1)):  # at -1 only the end of the line is missing
        with pytest.raises(UsageError, match=r"the list of series (ended early|is damaged)"):
            parsed(whole[:length].splitlines(keepends=True))
    assert len(parsed(whole.splitlines(keepends=True))[1]) == 1_001


@pytest.mark.parametrize("lines", [[b"1"], [b"[]"], [b'["a",1]', b"7"], [b'["a",1]', b"[7]"], [b'["a",1]', b"[[1]]"]])
def test_a_list_of_other_things_is_refused(lines: list[bytes]) -> None:
    with pytest.raises(UsageError, match="the list of series is damaged"):
        parsed(lines)


def test_a_mount_that_is_killed_while_it_sends_a_list_leaves_the_last_one(cache: Path) -> None:
    path = cache / "catalog-x.arrow"
    path.write_bytes(b"before")
    command = [sys.executable, "-m", "idcfs.namespace.build", str(path), "-"]
    lines = list(index._lines("here", [Record()] * 1_001))
    done = subprocess.run(command, input=b"".join(lines[:-1]), capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"the list of series ended early, after 1000\n"
    assert os.listdir(cache) == [path.name]
    assert path.read_bytes() == b"before"


def test_a_builder_does_without_pandas(cache: Path) -> None:
    code = (
        "import runpy, sys\n"
        "try: runpy.run_module('idcfs.namespace.build', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0 and 'pandas' not in sys.modules\n"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(cache / "catalog-x.arrow"), "-"]
    done = subprocess.run(command, input=b"".join(index._lines("here", [Record()])), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert Catalog.open(cache / "catalog-x.arrow").rows == 1


async def test_the_mount_s_process_loads_nothing_that_only_building_needs(tmp_path: Path) -> None:
    code = (
        "import sys, trio\n"
        "from pathlib import Path\n"
        "from idcfs.commands.mount import _serve\n"
        "from idcfs.errors import UsageError\n"
        "from idcfs.settings import QIDO, ArchiveSettings, MountSettings\n"
        "here, cache = ArchiveSettings('here', 'http://here'), Path(sys.argv[1])\n"
        "try: _serve(MountSettings(cache, here, QIDO, Path('/proc/none')), print, print)\n"  # loads what it needs
        "except UsageError as error: assert 'cannot be made' in str(error)\n"
        "from idcfs.archive.records import SeriesRecord\n"
        "from idcfs.namespace.index import search_catalog, unsearched_catalog\n"
        "async def search(): return [SeriesRecord('P1', '1.2', '1.2.3', 7)]\n"
        "catalog = unsearched_catalog('here')\n"
        "assert [name for name, *_ in catalog.children(0, 0, 0)] == [b'here']\n"
        "assert trio.run(search_catalog, search, here, cache).series(0).instances == 7\n"
        "heavy = ('numpy', 'pandas', 'pyarrow.compute', 'pyarrow.parquet', 'idcfs.namespace.build')\n"
        "print(sorted(name for name in heavy if sys.modules.get(name)))\n"
    )
    done = await trio.run_process([sys.executable, "-c", code, tmp_path], capture_stdout=True, capture_stderr=True)
    assert (done.stdout, done.stderr) == (b"[]\n", b"")


KILLED = "what here:8042 lists cannot be sorted: the process that does it was ended: Killed"


async def test_a_builder_that_is_killed_is_an_error_and_the_next_look_asks_again(
    cache: Path, builder: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server([Record()] * 100_000)
    builder("read line; kill -KILL $$")  # in the middle of the list
    with pytest.raises(IdcfsError) as caught:
        await search_catalog(server.search, HERE, cache)
    assert (type(caught.value), str(caught.value)) == (IdcfsError, KILLED)
    assert caplog.records == []
    assert os.listdir(cache / "searched") == []
    monkeypatch.undo()
    assert (await search_catalog(server.search, HERE, cache)).rows == 1
    assert server.calls == 2


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 1", "exit code 1"),
        ("printf 'Traceback (most recent call last):\n  ...\nMemoryError\n' >&2; exit 1", "MemoryError"),
        ("cat >/dev/null; printf '\\377\n' >&2; exit 2", "\ufffd"),
    ],
)
async def test_a_builder_that_fails_is_an_error_of_one_line(
    script: str, reason: str, cache: Path, builder: Callable[[str], None]
) -> None:
    builder(script)
    with pytest.raises(IdcfsError) as caught:
        await search_catalog(Server([Record()] * 100_000).search, HERE, cache)
    assert str(caught.value) == f"what here:8042 lists cannot be sorted: {reason}"


async def test_a_builder_that_cannot_be_started_is_an_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/none")
    with pytest.raises(IdcfsError, match=r"^/none cannot be started: No such file or directory$"):
        await search_catalog(Server().search, HERE, cache)


async def test_unmounting_does_not_wait_for_a_builder(
    cache: Path, tmp_path: Path, builder: Callable[[str], None]
) -> None:
    begun, go_on, ended = (tmp_path / name for name in ("begun", "go-on", "ended"))
    builder(f"cat >/dev/null; : >{begun}; until [ -e {go_on} ]; do sleep 0.05; done; : >{ended}")
    patience = threading.Timer(PATIENCE_SECONDS, go_on.touch)  # or to wait for it would be to wait for ever
    async with trio.open_nursery() as nursery:
        nursery.start_soon(search_catalog, Server().search, HERE, cache)
        await present(begun)
        patience.start()
        nursery.cancel_scope.cancel()
    assert not go_on.exists()
    patience.cancel()
    go_on.touch()
    await present(ended)


async def present(path: Path) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        while not os.path.exists(path):  # noqa: ASYNC110, ASYNC240
            await trio.sleep(0.01)
