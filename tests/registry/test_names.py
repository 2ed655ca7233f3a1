"""Names: one grammar, one parser."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import InvalidName
from registry.names import Ref, Transfer, check_stage, check_task

TASKS = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?", fullmatch=True)
STAGES = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
SELECTORS = st.one_of(
    st.none(),
    STAGES.map(lambda stage: {"stage": stage}),
    st.integers(1, 999_999_999).map(lambda number: {"number": number}),
    st.from_regex(r"sha256:[0-9a-f]{4,64}", fullmatch=True).map(lambda digest: {"digest": digest}),
)


@given(TASKS, st.none() | TASKS, SELECTORS)
def test_every_ref_reads_back_as_itself(
    target: str, source: str | None, selector: dict[str, Any] | None
) -> None:
    ref = Ref(target, source, **(selector or {}))
    assert Ref.parse(str(ref)) == ref


@given(st.text(alphabet="abz09._-/@:sha256", max_size=30))
def test_text_that_parses_is_written_back_unchanged(text: str) -> None:
    try:
        ref = Ref.parse(text)
    except InvalidName:
        return
    assert str(ref) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "a@",
        "/a",
        "a/",
        "a/b/c",
        "A",
        "a b",
        "a@0",
        "a@01",
        "a@-1",
        "a@Prod",
        "a@sha256:xyz",
        "a@sha256:ab",
        "../a",
        "a@b@c",
        "-a",
        "a-",
        "a" * 64,
        "a\n",
        "a@3\n",
        "é",
    ],
)
def test_refs_outside_the_grammar_are_refused(text: str) -> None:
    with pytest.raises(InvalidName):
        Ref.parse(text)


def test_a_ref_selects_in_one_way_only() -> None:
    with pytest.raises(InvalidName, match="not by several"):
        Ref("flowers", stage="staging", number=3)


def test_a_transfer_reads_back_as_itself() -> None:
    assert str(Transfer.parse("imagenet-1k/flowers")) == "imagenet-1k/flowers"
    with pytest.raises(InvalidName, match="source/target"):
        Transfer.parse("flowers")


def test_messages_show_what_came() -> None:
    with pytest.raises(InvalidName, match="'Flowers'"):
        check_task("Flowers")
    with pytest.raises(InvalidName, match="'3'"):
        check_stage("3")
