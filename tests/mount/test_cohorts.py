"""A part of the index alone: ``--collection``, ``--where`` and ``--manifest``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from scripts.harness import Failure, status
from tests.mount.commands import idcfs
from tests.mount.conftest import NOWHERE, MountMaker
from tests.mount.test_layouts import shown
from tests.twin.client import Twin


@pytest.fixture
def rows(sample_index: Path) -> list[dict[str, Any]]:
    """The rows of the index."""
    found: list[dict[str, Any]] = pq.read_table(sample_index).to_pylist()
    return found


def series_below(place: Path) -> set[str]:
    """The series that ``find`` finds, by their UIDs."""
    command = ["find", str(place), "-mindepth", "4", "-maxdepth", "4"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(found) == len(set(found))
    return {Path(path).name for path in found}


def where(condition: str, index: Path) -> set[str]:
    """The series of the index for which ``condition`` is true, as DuckDB has it."""
    query = f"SELECT SeriesInstanceUID FROM '{index}' WHERE {condition}"
    return {str(uid) for (uid,) in duckdb.sql(query).fetchall()}


def test_a_collection_is_shown_alone(
    mount: MountMaker, twin: Twin, sample: Path, sample_index: Path, rows: list[dict[str, Any]]
) -> None:
    made = mount(twin.url, "--index", sample_index, "--collection", "chest_twin")
    assert [path.name for path in made.path.iterdir()] == ["chest_twin"]
    wanted = [row for row in rows if row["collection_id"] == "chest_twin"]
    assert series_below(made.path) == {row["SeriesInstanceUID"] for row in wanted}
    files = shown(made.path)
    assert len(files) == sum(row["instanceCount"] for row in wanted)
    originals = {path.name: path.read_bytes() for path in sample.rglob("*.dcm")}
    assert all(path.read_bytes() == originals[path.name] for path in files.values())
    others = [row["SeriesInstanceUID"] for row in rows if row["collection_id"] != "chest_twin"]
    assert not any((made.path / ".uid" / uid).is_symlink() for uid in others)


@pytest.mark.parametrize(
    "condition",
    ["Modality = 'CT'", "Modality <> 'CT' AND instanceCount > 1", "PatientID IN (FROM index SELECT min(PatientID))"],
)
def test_a_condition_chooses_series(condition: str, mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index, "--where", condition)
    expected = where(condition.replace("FROM index", f"FROM '{sample_index}'"), sample_index)
    assert 0 < len(expected) < pq.read_metadata(sample_index).num_rows
    assert series_below(made.path) == expected


def test_all_together_narrow_and_the_next_mount_finds_the_catalog(
    mount: MountMaker, sample_index: Path, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    listed = [row["SeriesInstanceUID"] for row in rows][1:]
    (tmp_path / "list.csv").write_text("nr,SeriesInstanceUID\r\n" + "".join(f"0,{uid}\r\n" for uid in listed))
    options = ("--collection", "chest_twin", "--collection", "rider_twin", "--where", "Modality = 'CT'")
    manifest = ("--manifest", tmp_path / "list.csv")
    made = mount(NOWHERE, "--index", sample_index, *options, *manifest)
    two = "Modality = 'CT' AND collection_id IN ('chest_twin', 'rider_twin')"
    assert series_below(made.path) == where(two, sample_index) & set(listed) != set()
    report = {
        "collections": ["chest_twin", "rider_twin"],
        "where": "Modality = 'CT'",
        "manifest": str(tmp_path / "list.csv"),
    }
    assert status(made.path)["cohort"] == report
    line = f"  cohort    collection chest_twin or rider_twin, where Modality = 'CT', listed in {tmp_path}/list.csv\n"
    assert line in idcfs("status", made.path).stdout
    (catalog,) = (tmp_path / "cache").glob("catalog-*-cohort-*.arrow")
    before = catalog.stat().st_ino
    again = mount(NOWHERE, "--index", sample_index, *options, *manifest, at="again")
    assert series_below(again.path) == series_below(made.path)
    assert catalog.stat().st_ino == before


def test_a_manifest_of_the_portal_comes_by_stdin(
    mount: MountMaker, sample_index: Path, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    chosen = [row for row in rows if row["crdc_series_uuid"]][:2]
    text = "# idc download manifest.s5cmd\n"
    text += "".join(f"cp s3://{row['aws_bucket']}/{row['crdc_series_uuid']}/* .\n" for row in chosen)
    usual = ("--archive", NOWHERE, "--index", sample_index, "--cache-dir", tmp_path / "cache", "--manifest", "-")
    done = idcfs("mount", tmp_path / "mnt", *usual, stdin=text, state=tmp_path / "state")
    assert (done.returncode, done.stderr) == (0, "")
    try:
        assert series_below(tmp_path / "mnt") == {row["SeriesInstanceUID"] for row in chosen}
        assert status(tmp_path / "mnt")["cohort"] == {"collections": [], "where": None, "manifest": "-"}
    finally:
        assert idcfs("umount", tmp_path / "mnt").returncode == 0


def test_without_any_there_is_no_cohort(mount: MountMaker, sample_index: Path) -> None:
    made = mount(NOWHERE, "--index", sample_index)
    assert status(made.path)["cohort"] is None
    assert "  cohort  " not in idcfs("status", made.path).stdout


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ("--collection", "chest_twim"),
            "--collection chest_twim: the index has no such collection; did you mean chest_twin?",
        ),
        (
            ("--collection", "CHEST_TWIN"),
            "--collection CHEST_TWIN: the index has no such collection; did you mean chest_twin?",
        ),
        (("--collection", ""), "--collection : the index has no such collection"),
        (("--where", ""), "--where is empty: give a condition, like Modality = 'CT'"),
        (
            ("--where", "Modality = 'none'"),
            "the cohort is empty: the index has no such series (where Modality = 'none')",
        ),
        (
            ("--where", "Modality\n= 'none'"),
            "the cohort is empty: the index has no such series (where Modality = 'none')",
        ),
        (("--collection", "a\nb"), "--collection a b: the index has no such collection"),
        (("--where", "Modality ="), "--where: syntax error at end of input"),
        (
            ("--where", "Modalty = 'CT'"),
            '--where: Binder Error: Referenced column "Modalty" not found in FROM clause. ',
        ),
        (
            ("--where", "EXISTS (FROM read_text('/etc/passwd'))"),
            "--where: a condition can read the table index and no other, so not read_text(…)",
        ),
        (
            ("--where", "true; COPY index TO '/tmp/x'"),
            "--where: give one condition, like Modality = 'CT', and nothing after it",
        ),
        (("--where", "true; LOAD httpfs"), "--where: give one condition, like Modality = 'CT', and nothing after it"),
        (("--manifest", ""), "--manifest is empty: give a file, or - for stdin"),
        (("--manifest", "-"), "--manifest -: it lists no series"),
        (("--manifest", "/none"), "--manifest /none: No such file or directory"),
        (("--manifest", "/"), "--manifest /: Is a directory"),
        (("--manifest", sys.executable), f"--manifest {sys.executable}: it is no"),
        (
            ("--index", "qido", "--collection", "x"),
            "--collection: what a server lists (--index qido) is not known before",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_is_one_line_and_nothing_is_mounted(
    options: tuple[str, ...], line: str, sample_index: Path, tmp_path: Path
) -> None:
    usual = ("--archive", NOWHERE, "--index", sample_index, "--cache-dir", tmp_path / "cache")
    done = idcfs("mount", tmp_path / "mnt", *usual, *options, stdin="", state=tmp_path / "state")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"idcfs: {line}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "mnt").exists()
    assert not list((tmp_path / "cache").glob("catalog-*.arrow*"))


def test_series_that_the_index_lacks_are_counted_and_named(
    mount: MountMaker, sample_index: Path, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "list").write_text(f"{rows[0]['SeriesInstanceUID']}\n1.2.3\n1.2.4\n")
    line = r"\(exit code 2\): idcfs: --manifest .*/list: not in the index: 2 of 3 series \(1\.2\.3, 1\.2\.4\)$"
    with pytest.raises(Failure, match=line):
        mount(NOWHERE, "--index", sample_index, "--manifest", tmp_path / "list")


def test_a_manifest_is_not_kept_open(
    mount: MountMaker, sample_index: Path, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "list").write_text(f"{rows[0]['SeriesInstanceUID']}\n")
    made = mount(NOWHERE, "--index", sample_index, "--manifest", tmp_path / "list")
    held = [str(path.readlink()) for path in Path(f"/proc/{made.pid}/fd").iterdir() if path.is_symlink()]
    assert not [path for path in held if path.endswith("/list") or "(deleted)" in path]
