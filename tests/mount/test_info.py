"""``idcfs info``: what a path or a UID is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from scripts.harness import status
from tests.mount.commands import idcfs
from tests.mount.conftest import NOWHERE, MountMaker
from tests.mount.stage import a_series
from tests.twin.client import Twin

WADO_ALONE = "auto: by WADO-RS; no bucket may be asked"


def described(*names: str | Path) -> list[dict[str, Any]]:
    done = idcfs("info", "--json", *names)
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("layout", "levels"),
    [
        ("default", ["archive", "collection", "patient", "study", "series"]),
        ("readable", ["archive", "collection", "patient", "study", "series"]),
        ("%Modality/%PatientID/%SeriesInstanceUID", ["archive", "directory", "patient", "series"]),
    ],
)
def test_each_level_is_called_by_what_it_is(
    layout: str, levels: list[str], mount: MountMaker, sample_index: Path
) -> None:
    made = mount(NOWHERE, "--index", sample_index, "--layout", layout)
    places = [made.path]
    while len(places) < len(levels):
        places.append(min(places[-1].iterdir()))
    found = described(*places, made.path / ".status.json", made.path / ".uid")
    assert [one["what"] for one in found] == [*levels, "hidden file", "hidden directory"]
    assert [one["path"] for one in found[:-2]] == [str(place) for place in places]
    assert {one["mountpoint"] for one in found} == {str(made.path)}
    assert [one["content"] for one in found] == [WADO_ALONE] * len(levels) + [None, None]
    assert status(made.path)["counters"]["requests"] == 0


def test_a_file_and_a_link_to_its_series(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    made = mount(twin.url, "--index", sample_index)
    series = a_series(made)
    file = min(series.iterdir())
    file.read_bytes()
    before = status(made.path)["counters"]["requests"]
    link = made.path / ".uid" / series.name
    of_file, of_link = described(file, link)
    assert (of_file["what"], of_file["size_bytes"]) == ("instance", os.stat(file).st_size)
    assert (of_link["what"], of_link["path"]) == ("series", str(series))
    lines = idcfs("info", file).stdout.splitlines()
    assert lines[0] == f"{file}: instance"
    assert any(line.startswith(f"  size        {os.stat(file).st_size:,} bytes") for line in lines)
    assert f"  content     {WADO_ALONE}" in lines
    assert status(made.path)["counters"]["requests"] == before


def test_it_says_in_words_what_the_attributes_say(mount: MountMaker, twin: Twin, sample_index: Path) -> None:
    made = mount(twin.url, "--index", sample_index)
    row = pq.read_table(sample_index).to_pylist()[0]
    series = (made.path / ".uid" / row["SeriesInstanceUID"]).resolve(strict=True)
    lines = dict(line.split(maxsplit=1) for line in idcfs("info", series).stdout.splitlines()[1:])
    assert lines["collection"] == row["collection_id"]
    assert lines["study"] == row["StudyInstanceUID"]
    assert lines["series"] == row["SeriesInstanceUID"]
    assert (lines["modality"], lines["licence"]) == (row["Modality"], row["license_short_name"])
    assert lines["viewer"].endswith(f"={row['SeriesInstanceUID']}")
    count = row["instanceCount"]
    assert lines["holds"].endswith(f"{count:,} instance{'s' if count > 1 else ''}")
    assert lines["size"] == f"{round(row['series_size_MB'] * 1e6):,} bytes, exact"


def test_a_uid_is_found_in_every_mount(mount: MountMaker, sample_index: Path) -> None:
    first, second = (mount(NOWHERE, "--index", sample_index, at=name) for name in ("first", "second"))
    uid = pq.read_table(sample_index).column("SeriesInstanceUID")[0].as_py()
    lines = idcfs("info", uid).stdout.splitlines()
    for made in (first, second):
        assert f"{(made.path / '.uid' / uid).resolve()}: series" in lines


def test_what_is_nowhere_is_one_line(mount: MountMaker, sample_index: Path, tmp_path: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    missing = made.path / "nobody"
    for place, said in ((tmp_path, "not in an idcfs mount"), (missing, "No such file or directory")):
        done = idcfs("info", made.path, place)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"idcfs: {place}: {said}\n")
    done = idcfs("info", "1.2.3")
    assert (done.returncode, done.stdout) == (1, "")
    assert "1.2.3 is " in done.stderr.splitlines()[-1]
