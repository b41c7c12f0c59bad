"""What is proposed for a name that does not exist."""

from __future__ import annotations

import pytest

from idcfs.nearest import did_you_mean

COLLECTIONS = ("mri_dir", "rider_lung_ct", "rider_lung_pet_ct", "duke_breast_cancer_mri", "qin_breast", "nlst")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("rider", "rider_lung_ct"),  # mri_dir has more of its letters for its length
        ("RIDER_lung_PET", "rider_lung_pet_ct"),
        ("duke", "duke_breast_cancer_mri"),  # which is too long to be near by its letters
        ("qin_brest", "qin_breast"),
        ("nlst_ct", "nlst"),
        ("du", ""),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_what_begins_so_is_nearer_than_what_looks_like_it(written: str, meant: str) -> None:
    assert did_you_mean(written, COLLECTIONS) == (f"did you mean {meant}?" if meant else "")
