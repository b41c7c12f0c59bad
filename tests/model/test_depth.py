"""How many examples somebody asked for."""

from __future__ import annotations

import pytest

from tests.model.depth import VARIABLE, depth


def test_examples_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "500")
    assert (depth(12, 40, 1).max_examples, depth(2, 30, 10).max_examples) == (500, 50)
    monkeypatch.setenv(VARIABLE, "3")
    assert depth(2, 30, 10).max_examples == 1
    monkeypatch.delenv(VARIABLE)
    assert depth(12, 40, 1).max_examples == 12


@pytest.mark.parametrize("wanted", ["many", "-1", "1.5", "٣"])
def test_what_is_no_number_of_examples_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.setenv(VARIABLE, wanted)
    with pytest.raises(pytest.exit.Exception, match=r"^MODEL_EXAMPLES .* is no number of examples$") as refused:
        depth(12, 40, 1)
    assert refused.value.returncode == 2
