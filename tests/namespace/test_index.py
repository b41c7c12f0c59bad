"""Building catalogs: many at once, killed, damaged, and where the cache cannot be used."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from idcfs.errors import Damaged, UsageError
from idcfs.namespace import build, index
from idcfs.namespace.catalog import Catalog
from idcfs.namespace.index import open_catalog
from idcfs.namespace.nodes import Level
from tests.namespace.damaging import DAMAGES, garbage
from tests.namespace.making import ROW, built, catalogs, is_right, write_rows

DAY = 86_400


def python(code: str, *arguments: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# --- one catalog, whoever builds it ----------------------------------------------------------------------------------


def test_mounts_that_start_at_once_share_one_catalog(source: Path, cache: Path) -> None:
    code = "import sys; from idcfs.namespace.index import *; print(open_catalog(sys.argv[1], Path(sys.argv[2])).rows)"
    processes = [python(code, source, cache) for _ in range(3)]
    assert [(*process.communicate(), process.returncode) for process in processes] == [("1\n", "", 0)] * 3
    assert len(catalogs(cache)) == 1
    assert is_right(open_catalog(str(source), cache))


def test_a_damaged_catalog_is_built_again_once_by_mounts_that_start_at_once(source: Path, cache: Path) -> None:
    path = index.catalog_path(str(source), cache)
    path.write_bytes(b"damaged")
    code = (
        "import sys; from idcfs.namespace.build import *\n"
        "assert main(sys.argv[1:]) == 0; print(Path(sys.argv[1]).stat().st_ino, Catalog.open(Path(sys.argv[1])).rows)"
    )
    processes = [python(code, path, source) for _ in range(2)]
    answers = [(*process.communicate(), process.returncode) for process in processes]
    assert answers == [(f"{path.stat().st_ino} 1\n", "", 0)] * 2


def test_a_whole_catalog_is_not_built_again(source: Path, cache: Path) -> None:
    path = built(source, cache)
    before = path.stat().st_ino
    assert built(source, cache) == path
    assert is_right(open_catalog(str(source), cache))
    assert path.stat().st_ino == before


def test_a_builder_killed_midway_leaves_nothing_that_is_taken_for_a_catalog(source: Path, cache: Path) -> None:
    path = index.catalog_path(str(source), cache)
    code = (
        "import sys, time; from idcfs.namespace.build import *\n"
        "Path.replace = lambda *_: (print('written', flush=True), time.sleep(600))\n"
        "main(sys.argv[1:])"
    )
    builder = python(code, path, source)
    assert builder.stdout is not None
    assert builder.stdout.readline() == "written\n"
    builder.send_signal(signal.SIGKILL)
    builder.communicate()
    assert catalogs(cache) == [path.with_name(f"{path.name}.tmp")]
    with catalogs(cache)[0].open("r+b") as torn:
        torn.truncate(1_000)
    assert is_right(open_catalog(str(source), cache))
    assert catalogs(cache) == [path]


def test_a_build_that_fails_leaves_no_half_file(
    source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert build.main([str(cache / "catalog-x.arrow"), str(source)]) == os.EX_CANTCREAT
    assert "No space left" in capsys.readouterr().err
    assert catalogs(cache) == []


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: str(damage.__name__))
def test_a_catalog_that_is_not_whole_is_refused_and_built_again(
    damage: Callable[[Path], None], source: Path, cache: Path
) -> None:
    path = built(source, cache)
    damage(path)
    with pytest.raises(Damaged, match=path.name):
        Catalog.open(path)
    built(source, cache)
    assert is_right(Catalog.open(path))


def test_a_damaged_catalog_is_said_to_be_built_again(
    source: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    garbage(index.catalog_path(str(source), cache))
    assert is_right(open_catalog(str(source), cache))
    (record,) = caplog.records
    assert "building it again" in record.getMessage()


def test_a_first_build_is_no_reason_to_warn(source: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    open_catalog(str(source), cache)
    assert caplog.records == []


# --- which catalog ---------------------------------------------------------------------------------------------------


def test_a_file_in_place_of_another_has_another_catalog(source: Path, cache: Path) -> None:
    before = index.catalog_path(str(source), cache)
    assert index.catalog_path(str(source), cache) == before
    write_rows(source, [ROW, replace(ROW, SeriesInstanceUID="1.2.4")])
    assert index.catalog_path(str(source), cache) != before
    assert Catalog.open(built(source, cache)).rows == 2


def test_a_file_of_the_same_size_and_another_date_has_another_catalog(source: Path, cache: Path) -> None:
    before = index.catalog_path(str(source), cache)
    os.utime(source, ns=(0, source.stat().st_mtime_ns + 1))
    assert index.catalog_path(str(source), cache) != before


def test_one_file_has_one_catalog_by_whatever_path(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(source.parent)
    (source.parent / "link").symlink_to(source)
    known = {index.catalog_path(path, cache) for path in (str(source), "index.parquet", "./index.parquet", "link")}
    assert len(known) == 1


def test_only_catalogs_that_nobody_used_for_long_are_removed(source: Path, cache: Path) -> None:
    def aged(name: str, days: int) -> Path:
        (cache / name).write_bytes(b"")
        os.utime(cache / name, (0, time.time() - days * DAY))
        return cache / name

    fresh = aged("catalog-1-packaged-22.0.1.arrow", 29)
    of_file, cohort = f"file-{'a1' * 10}", f"cohort-{'b2' * 8}"
    names = ("packaged-21.1.4.arrow", "packaged-9.0.3.arrow.tmp", f"{of_file}.arrow", f"{of_file}-{'c3' * 6}.arrow")
    made = (f"packaged-21.1.4-{cohort}.arrow", f"{of_file}-{cohort}.parquet", f"packaged-21.1.4-{cohort}.json")
    unused = [aged(f"catalog-0-{name}", 31) for name in (*names, *made)]
    others = [aged("catalog.lock", 99), aged("series.sqlite", 99), aged("other-file", 99)]
    theirs = ("2020.csv", "of-trees.arrow", "", "2020-01.arrow", "1-mine.arrow.bak", "2024-study.arrow.csv")
    others += [aged(f"catalog-{name}", 99) for name in theirs]
    (cache / "catalog-directory").mkdir()
    os.utime(cache / "catalog-directory", (0, 0))
    open_catalog(str(source), cache)
    assert not [path for path in unused if path.exists()]
    assert all(path.exists() for path in (fresh, *others))


def test_using_a_catalog_keeps_it(source: Path, cache: Path) -> None:
    path = built(source, cache)
    os.utime(path, (0, 0))
    open_catalog(str(source), cache)
    assert path.stat().st_mtime > time.time() - DAY


def test_series_of_a_file_are_dated_by_their_release_else_by_the_file(tmp_path: Path, cache: Path) -> None:
    rows = [replace(ROW, series_revised_idc_version=version, collection_id=str(version)) for version in (1, 9_999)]
    source = write_rows(tmp_path / "index.parquet", rows)
    os.utime(source, (0, 123_456))
    catalog = Catalog.open(built(source, cache))
    assert catalog.revised_time(Level.SERIES, 0) == build.packaged_index()[1][1]
    assert catalog.revised_time(Level.SERIES, 1) == 123_456


# --- the cache directory ---------------------------------------------------------------------------------------------


def test_a_cache_directory_that_cannot_be_written_is_named(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match=r"/proc/catalog\.lock") as caught:
        open_catalog(str(source), Path("/proc"))  # where root cannot write either
    assert "\n" not in str(caught.value)
    for directory in (tmp_path / "missing", source):
        assert build.main([str(directory / "catalog-x.arrow"), str(source)]) == os.EX_CANTCREAT
        assert f"{directory}/catalog.lock" in capsys.readouterr().err


def test_a_catalog_serves_a_mount_that_may_only_read_it(
    source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise PermissionError

    built(source, cache)
    monkeypatch.setattr(os, "utime", refused)
    assert is_right(open_catalog(str(source), cache))
