"""The machine's mounts, as far as no mount is needed."""

from __future__ import annotations

import pytest

from idcfs.mounts import in_thread


def test_what_happens_in_a_thread_comes_back_whatever_it_is() -> None:
    assert in_thread(lambda: 7).result() == 7
    with pytest.raises(ZeroDivisionError):
        in_thread(lambda: 1 // 0).result()
