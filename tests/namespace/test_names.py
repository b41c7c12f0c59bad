"""Any value becomes a legal name, no two the same one, and comes back."""

from __future__ import annotations

import string
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from idcfs.namespace.names import INSTANCE_SUFFIX, PLAIN, escape, instance_name, is_shortened, unescape
from tests.namespace.making import any_text, assert_legal, hostile, patient

texts = hostile(any_text)
flags = st.booleans()


def plain(values: Sequence[str]) -> list[bool]:
    """What the bulk test says of each value."""
    encoded = [value.encode("utf-8", "surrogatepass") for value in values]
    column = pa.array(encoded, pa.large_binary()).view(pa.large_string())
    found: list[bool] = pc.match_substring_regex(column, PLAIN).to_pylist()
    return found


@patient
@given(texts, flags)
def test_every_value_has_a_legal_name(value: str, hidden: bool) -> None:
    assert_legal(escape(value, hidden=hidden))
    assert_legal(instance_name(value))


@patient
@given(texts, flags)
def test_a_name_gives_its_value_back_unless_it_was_shortened(value: str, hidden: bool) -> None:
    name = escape(value, hidden=hidden)
    if is_shortened(name):
        with pytest.raises(ValueError, match="only the catalog knows"):
            unescape(name)
    else:
        assert unescape(name) == value


@patient
@given(texts, texts, flags)
@example("x" * 300, "x" * 299 + "y", True)
@example("%2E", ".", True)
@example("%2Ea", ".a", False)
@example("%~", "", True)
def test_two_values_never_share_a_name(one: str, other: str, hidden: bool) -> None:
    assert (escape(one, hidden=hidden) == escape(other, hidden=hidden)) == (one == other)
    assert (instance_name(one) == instance_name(other)) == (one == other)


@patient
@given(texts)
def test_a_file_name_holds_the_whole_uid_unless_it_was_shortened(value: str) -> None:
    name = instance_name(value)
    assert name.endswith(INSTANCE_SUFFIX)
    stem = name.removesuffix(INSTANCE_SUFFIX)
    if not is_shortened(stem):
        assert unescape(stem) == value


def test_the_name_of_a_name_in_full_is_no_longer_than_a_path_component() -> None:
    longest = "1" * 251
    assert instance_name(longest) == longest.encode() + b".dcm"
    assert is_shortened(instance_name(longest + "1").removesuffix(b".dcm"))
    assert escape("1" * 255) == b"1" * 255
    assert is_shortened(escape("1" * 256))


@patient
@given(st.text(string.ascii_letters + string.digits + " =-_+()#,;:@!'\"&*?<>|\\^~[]{}", min_size=1, max_size=250))
def test_ordinary_values_are_their_own_names(value: str) -> None:
    assert escape(value) == escape(value, hidden=False) == value.encode()
    assert plain([value]) == [True]


def test_text_of_other_languages_is_its_own_name() -> None:
    for value in ("Müller", "患者１", "пациент", "50 %", "100%", "a%b", "%zz", "\u2028"):
        assert escape(value) == value.encode()


def test_only_what_a_path_cannot_carry_is_escaped() -> None:
    assert escape("a/b") == b"a%2Fb"
    assert escape("") == b"%~"
    assert escape(".") == b"%2E"
    assert escape("..") == b"%2E%2E"
    assert escape("...") == b"..."
    assert escape("a\0\n\x7f\x85") == b"a%00%0A%7F%C2%85"
    assert escape("%2F %~") == b"%252F %25~"


def test_a_leading_dot_is_escaped_only_where_hidden_names_are_ours() -> None:
    assert escape(".status.json") == b".status.json"
    assert escape(".status.json", hidden=False) == b"%2Estatus.json"
    assert escape("a.b", hidden=False) == b"a.b"


@patient
@given(texts)
@example("a\n")
@example("\n")
@example("x" * 250)
@example("x" * 251)
@example("x" * 252)
@example("x" * 256)
@example("a%41")
@example(".a")
@example("..")
@example("\ud800")
def test_the_bulk_test_accepts_only_values_that_are_their_own_name(value: str) -> None:
    if plain([value]) == [True]:
        assert escape(value) == escape(value, hidden=False) == value.encode()
        assert instance_name(value) == value.encode() + INSTANCE_SUFFIX


def test_the_bulk_test_knows_every_character_that_needs_care() -> None:
    values = [text.format(chr(code)) for code in range(0x3000) for text in ("{}", "a{}", "{}a")]
    for value, is_plain in zip(values, plain(values), strict=True):
        assert not is_plain or escape(value, hidden=False) == value.encode(), repr(value)
