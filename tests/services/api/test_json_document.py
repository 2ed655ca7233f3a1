"""JSON documents, read no further than they are understood."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import InputTooLarge, UndecodableInput
from services.api import json_document
from services.errors import MalformedRequest

_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**18), 10**18),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
)
_items = st.one_of(_scalars, st.lists(_scalars, max_size=3))
_documents = st.dictionaries(
    st.text(max_size=20), st.one_of(_scalars, st.lists(_items, max_size=6)), max_size=4
)


@given(_documents, st.sampled_from([None, 0, 2]), st.booleans())
def test_a_document_is_read_as_the_standard_library_reads_it(
    written: dict[str, Any], indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(written, indent=indent, ensure_ascii=ascii_only)
    if text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text):
        assert json_document.read(text.encode(), 6) == json.loads(text)


@given(st.text(alphabet='{}[]",:\\ 0123456789.eE+-truefalsn\n', max_size=40))
def test_what_the_standard_library_refuses_is_refused(text: str) -> None:
    try:
        json.loads(text)
    except ValueError:
        with pytest.raises((MalformedRequest, UndecodableInput)):
            json_document.read(text.encode(), 100)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"a"',
        b"\xef\xbb\xbf{}",
        b"{}{}",
        b'{"a":1,}',
        b'{"a":[1,]}',
        b'{"a":01}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":"\x01"}',
        b'{"a":"\\x"}',
        b'{"a":"\xff"}',
        b'{"a":["\\ud800"]}',
        b'{"a":["\\udc00\\ud800"]}',
        b'{"a":1,"a":2}',
        b'{"a":{}}',
        b'{"a":' + b"9" * 100 + b"}",
        b"{" + b",".join(b'"%d":0' % number for number in range(9)) + b"}",
        b'{"' + b"k" * 101 + b'":0}',
        b'{"a"',
        b'{"a":"b',
    ],
)
def test_what_is_no_document_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedRequest, match="expected a JSON document"):
        json_document.read(body, 4)


def test_a_list_is_read_to_its_limit() -> None:
    assert json_document.read(b'{"a":["b","c"]}', 2) == {"a": ["b", "c"]}
    with pytest.raises(InputTooLarge, match="at most 2"):
        json_document.read(b'{"a":["b","c","d"]}', 2)


@pytest.mark.parametrize("item", [b"[],", b'"a",', b"null,", b'["a","b"],'])
def test_a_list_without_end_is_refused_before_it_is_built(item: bytes) -> None:
    with pytest.raises(InputTooLarge):
        json_document.read(b'{"texts":[' + item * 1_000_000, 256)


def test_nesting_without_end_is_refused_where_it_begins() -> None:
    with pytest.raises(UndecodableInput) as caught:
        json_document.read(b'{"texts":["a",' + b"[" * 1_000_000, 256)
    assert caught.value.index == 1
