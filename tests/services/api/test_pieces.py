"""Long bytes in pieces: the same as in one go, wherever the pieces meet."""

import base64
import binascii
from collections.abc import Iterator
from json.decoder import JSONDecodeError, scanstring  # type: ignore[attr-defined]  # public by use, not typed
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

import services.api.pieces as module
from services.api.pieces import decoded, find, from_base64, string, unquoted


@pytest.fixture(autouse=True, scope="module")
def small_pieces() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", 16)
        yield


@given(st.binary(max_size=60), st.binary(min_size=1, max_size=12), st.integers(0, 70))
def test_bytes_are_found_where_they_first_are(data: bytes, wanted: bytes, start: int) -> None:
    for whole in (data, data + wanted, data + wanted + data):
        assert find(whole, wanted, start) == whole.find(wanted, start)


@given(st.text("ab", max_size=60), st.text("ab", min_size=1, max_size=12), st.integers(0, 70))
def test_texts_are_found_where_they_first_are(data: str, wanted: str, start: int) -> None:
    assert find(data, wanted, start) == data.find(wanted, start)


@given(st.text(max_size=40), st.binary(max_size=4), st.integers(0, 80))
def test_utf_8_is_read_or_refused_at_the_same_place(text: str, odd: bytes, at: int) -> None:
    data = text.encode()
    for each in (data, data[:at] + odd + data[at:]):
        try:
            expected: object = each.decode()
        except UnicodeDecodeError as error:
            with pytest.raises(UnicodeDecodeError) as caught:
                decoded(each)
            assert caught.value.start == error.start
        else:
            assert decoded(each) == expected


@given(st.binary(max_size=60), st.integers(0, 80), st.sampled_from(["=", "==", "A", "!", "\n", "é", ""]))
def test_base64_is_read_or_refused_as_in_one_go(data: bytes, at: int, odd: str) -> None:
    text = base64.b64encode(data).decode()
    text = text[:at] + odd + text[at:]
    try:
        expected = binascii.a2b_base64(text, strict_mode=True)
        assert len(text) % 4 == 0
    except (ValueError, AssertionError):
        with pytest.raises(ValueError):
            from_base64(text)
    else:
        assert from_base64(text) == expected


_PARTS = ["a", "é", "😀", "\\\\", '\\"', "\\n", "\\u0041", "\\ud83d\\ude00", "\\ud83d", "\\ude00"]
_ODD = ["\\", '"', "\n", "\\u00"]
STRINGS = st.lists(st.sampled_from([*_PARTS * 4, *_ODD]), max_size=30).map("".join)


@given(STRINGS, st.sampled_from(['"', '"]}', ""]), st.integers(0, 12))
def test_json_strings_are_read_or_refused_as_in_one_go(inner: str, rest: str, lead: int) -> None:
    text = "[" * lead + '"' + inner + rest
    try:
        expected = scanstring(text, lead + 1, True)
    except JSONDecodeError:
        with pytest.raises(JSONDecodeError) as caught:
            string(text, lead + 1)
        assert 0 <= caught.value.pos <= len(text)
    else:
        assert string(text, lead + 1) == expected


@given(st.text("%4a1Aé=", max_size=40))
def test_escapes_are_decoded_as_in_one_go_or_left_as_they_are(text: str) -> None:
    expected = unquote_to_bytes(text)
    found = unquoted(text)
    assert found == expected or (b"%" in found and b"%" in expected)


def test_escapes_of_a_whole_picture_are_decoded() -> None:
    text = "".join(f"%{number:02x}" for number in range(256))
    for lead in range(6):
        assert unquoted("a" * lead + text) == b"a" * lead + bytes(range(256))
