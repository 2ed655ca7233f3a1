from pathlib import Path

import pytest

from benchmarks.whole import whole


def folder(place: Path) -> None:
    place.mkdir()
    (place / "one").write_text("1")


def test_what_is_written_is_there_and_is_not_written_again(tmp_path: Path) -> None:
    place = tmp_path / "data" / "digits"
    assert whole(place, folder) == place
    assert whole(place, lambda _: pytest.fail("it is there")) == place
    assert [each.name for each in place.parent.iterdir()] == ["digits"]
    assert whole(tmp_path / "words.txt", lambda file: file.write_text("a")).read_text() == "a"


def test_whoever_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    def interrupted(place: Path) -> None:
        folder(place)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        whole(tmp_path / "digits", interrupted)
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_several_at_once_stays(tmp_path: Path) -> None:
    place = tmp_path / "digits"

    def late(fresh: Path) -> None:
        folder(place)
        fresh.mkdir()
        (fresh / "another").write_text("2")

    whole(place, late)
    assert [each.name for each in place.iterdir()] == ["one"]
