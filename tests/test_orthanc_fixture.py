"""What the real Orthanc takes of pydicom's files, and that it gives every byte of them back."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pydicom
import pytest

from tests.data import ct_series, pydicom_files
from tests.orthanc import Orthanc

STAR = 'multipart/related; type="application/dicom"; transfer-syntax=*'


@pytest.fixture(scope="module")
def orthanc() -> Iterator[Orthanc]:
    with Orthanc() as orthanc:
        yield orthanc


@pytest.fixture(scope="module")
def accepted(orthanc: Orthanc) -> list[Path]:
    return orthanc.upload_all(pydicom_files())


def _instances(orthanc: Orthanc) -> list[str]:
    """URLs of everything Orthanc holds."""
    with httpx.Client(trust_env=False, timeout=60) as client:
        items = client.get(f"{orthanc.url}/instances", params={"limit": 100_000}).json()
    value = {tag: [item[tag]["Value"][0] for item in items] for tag in ("0020000D", "0020000E", "00080018")}
    triples = zip(value["0020000D"], value["0020000E"], value["00080018"], strict=True)
    return [f"{orthanc.url}/studies/{a}/series/{b}/instances/{c}" for a, b, c in triples]


def _retrieve(url: str) -> bytes:
    response = httpx.get(url, headers={"Accept": STAR, "Accept-Encoding": "identity"}, trust_env=False, timeout=60)
    assert response.status_code == 200, url
    boundary = response.headers["content-type"].partition("boundary=")[2].partition(";")[0].strip('"').encode()
    (section,) = (b"\r\n" + response.content).split(b"\r\n--" + boundary)[1:-1]
    head, _, body = section.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head.lower()
    return body


def test_how_much_is_accepted(accepted: list[Path]) -> None:
    assert (len(accepted), len(pydicom_files())) == (160, 184)


def test_every_accepted_file_comes_back_byte_for_byte(orthanc: Orthanc, accepted: list[Path]) -> None:
    stored = {path.read_bytes() for path in accepted}
    listed = Counter(_instances(orthanc))
    unique = [url for url, count in listed.items() if count == 1]
    assert len(unique) == 130
    wrong = [url for url in unique if _retrieve(url) not in stored]
    assert wrong == []


def test_what_is_stored_under_two_patients_is_listed_twice_and_not_retrievable(
    orthanc: Orthanc, accepted: list[Path]
) -> None:
    """badVR.dcm and the rtdose files have the same three UIDs, and Orthanc reads different patients from them."""
    (url,) = (url for url, count in Counter(_instances(orthanc)).items() if count > 1)
    assert httpx.get(url, headers={"Accept": STAR}, trust_env=False).status_code == 404


def test_some_accepted_files_are_not_part_10(accepted: list[Path]) -> None:
    """Without preamble and DICM: a client must not take "DICM at 128" for granted on someone's own archive."""
    bare = {path.name for path in accepted if path.read_bytes()[128:132] != b"DICM"}
    assert bare == {"ExplVR_BigEndNoMeta.dcm", "ExplVR_LitEndNoMeta.dcm", "rtstruct.dcm"}


def test_a_sample_series_is_accepted(orthanc: Orthanc, tmp_path: Path) -> None:
    paths = ct_series(tmp_path / "ct", 5, 64)
    assert orthanc.upload_all(paths) == paths
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = pydicom.dcmread(paths[0], stop_before_pixels=True)
    url = f"{orthanc.url}/studies/{header.StudyInstanceUID}/series/{header.SeriesInstanceUID}/instances"
    assert _retrieve(f"{url}/{header.SOPInstanceUID}") == paths[0].read_bytes()


def test_what_is_no_dicom_is_rejected(orthanc: Orthanc, tmp_path: Path) -> None:
    text = tmp_path / "text.dcm"
    text.write_text("not DICOM")
    assert not orthanc.upload(text)


def test_it_ends_though_nobody_reads_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise BrokenPipeError

    with Orthanc() as orthanc:
        process = Path(f"/proc/{orthanc.pid}")
        monkeypatch.setattr("builtins.print", gone)
        with pytest.raises(BrokenPipeError):
            orthanc.__exit__(ValueError, ValueError(), None)
        assert not process.exists()
