"""Text of others, as it is shown."""

from __future__ import annotations

from idcfs.printable import quoted


def test_what_others_wrote_is_quoted_on_one_line_and_not_all_of_it() -> None:
    assert quoted("application/dicom; a=ü") == "application/dicom; a=ü"
    assert quoted("a\nb\ud800\x1b[0m") == "a\\nb\\ud800\\x1b[0m"
    assert quoted("9" * 100_000) == "9" * 100 + "…"
