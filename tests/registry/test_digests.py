"""Digests and the canonical JSON below them."""

import hashlib
import io

import pytest

from registry.digests import Digest, canonical_json
from registry.errors import InvalidDigest, InvalidValue


def test_bytes_parts_and_streams_agree() -> None:
    data = bytes(range(256)) * 9000
    expected = "sha256:" + hashlib.sha256(data).hexdigest()
    assert Digest.of(data) == Digest.of(data[:7], data[7:]) == expected
    assert Digest.of_stream(io.BytesIO(data)) == expected


@pytest.mark.parametrize(
    "text", ["", "sha256:", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "md5:" + "a" * 64]
)
def test_other_text_is_no_digest(text: str) -> None:
    with pytest.raises(InvalidDigest):
        Digest(text)


def test_json_has_one_form_whatever_the_order_of_keys() -> None:
    assert canonical_json({"b": 1, "a": [1.5, "é"]}) == canonical_json({"a": [1.5, "é"], "b": 1})
    assert canonical_json({"b": 1, "a": None}) == b'{"a":null,"b":1}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {"a": {1, 2}}])
def test_what_json_has_no_word_for_is_refused(value: object) -> None:
    with pytest.raises(InvalidValue, match="plain finite JSON"):
        canonical_json(value)
