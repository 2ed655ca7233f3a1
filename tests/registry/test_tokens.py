"""Bearer tokens: what they are made of, and what they permit."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from registry.errors import InvalidName, InvalidValue
from registry.tokens import ACTIVE, EVERYTHING, EXPIRED, REVOKED, Grant, Token, hash_of, id_of

NOW = datetime(2026, 5, 3, 14, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_a_token_is_proved_by_its_text_and_by_no_other() -> None:
    token, text = Token.issue("ci", EVERYTHING, "ada", NOW)
    other, others_text = Token.issue("ci", EVERYTHING, "ada", NOW)
    assert text.startswith("cvt_")
    assert id_of(text.encode()) == token.id != other.id
    assert token.proved_by(text.encode())
    assert not token.proved_by(others_text.encode())
    assert not token.proved_by(f"cvt_{token.id}_{others_text[17:]}".encode())


def test_its_secret_has_256_bits_and_is_kept_nowhere() -> None:
    token, text = Token.issue("ci", EVERYTHING, "ada", NOW)
    assert len(text) == len("cvt_") + 12 + len("_") + 43
    secret = text[17:]
    assert secret not in repr(token)
    assert secret not in str(token.to_json(NOW))
    assert token.hash not in repr(token)
    assert token.hash == hash_of(text.encode())


@pytest.mark.parametrize(
    "text", [b"", b"cvt_", b"cvt_0123456789ab_", b"cvt_0123456789AB_" + b"a" * 43, b"cvt_0123456789ab_" + b"a" * 44,
             b"cvt_0123456789ab_" + b"\xe9" * 43, b"cvt_0123456789ab_" + b"a" * 43 + b"\n"],
)  # fmt: skip
def test_what_is_no_token_has_no_id(text: bytes) -> None:
    assert id_of(text) is None


def test_a_grant_without_names_permits_everything() -> None:
    assert EVERYTHING.permits("classify")
    assert EVERYTHING.permits("embed")
    assert EVERYTHING.covers("whatever")


def test_a_grant_permits_what_it_names() -> None:
    grant = Grant.of(["a", "b"], ["embed"])
    assert not grant.permits("classify")
    assert grant.permits("embed")
    assert grant.covers("a")
    assert not grant.covers("c")


@pytest.mark.parametrize(
    ("targets", "operations"), [(["No Task"], []), ([""], []), ([], ["delete"]), ([], [""])]
)
def test_a_grant_of_what_cannot_be_is_refused(targets: list[str], operations: list[str]) -> None:
    with pytest.raises(InvalidValue):
        Grant.of(targets, operations)


def test_a_token_lives_until_it_expires_or_is_revoked() -> None:
    token, _ = Token.issue("ci", EVERYTHING, "ada", NOW, NOW + HOUR)
    assert token.state(NOW + HOUR - timedelta(microseconds=1)) == ACTIVE
    assert token.state(NOW + HOUR) == EXPIRED
    revoked = token.revoked("bob", NOW)
    assert revoked.state(NOW) == revoked.state(NOW + HOUR) == REVOKED
    assert (revoked.revoked_by, revoked.revoked_at) == ("bob", NOW)
    assert revoked.revoked("eve", NOW + HOUR) == revoked


@pytest.mark.parametrize("name", ["", "A", "-a", "a b", "a" * 64, "a\n"])
def test_a_name_that_breaks_the_grammar_is_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        Token.issue(name, EVERYTHING, "ada", NOW)


@pytest.mark.parametrize("expires", [NOW, NOW - HOUR])
def test_a_token_that_would_have_expired_is_refused(expires: datetime) -> None:
    with pytest.raises(InvalidValue, match="expires after it is made"):
        Token.issue("ci", EVERYTHING, "ada", NOW, expires)


@pytest.mark.parametrize(
    "wrong", [{"id": "x"}, {"created_by": ""}, {"revoked_at": NOW}, {"revoked_by": "ada"}], ids=str
)
def test_a_token_that_contradicts_itself_is_refused(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {
        "id": "0" * 12,
        "name": "ci",
        "hash": hash_of(b"x"),
        "grant": EVERYTHING,
        "created_at": NOW,
    }
    with pytest.raises(InvalidValue):
        Token(**(right | {"created_by": "ada"} | wrong))
