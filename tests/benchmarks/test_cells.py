from pathlib import Path

from benchmarks.cells import Cell, Log

CELL = Cell("digits", "letters", 5, 0)


def test_figures_are_made_once_and_known_to_the_next_run(tmp_path: Path) -> None:
    made = []

    def work() -> dict[str, float]:
        made.append(1)
        return {"accuracy": 0.5}

    log = Log(tmp_path / "cells.jsonl")
    assert log.once(CELL, "frozen", work) == log.once(CELL, "frozen", work) == {"accuracy": 0.5}
    assert log.account() == "0 figures were known, 1 was made now."
    again = Log(tmp_path / "cells.jsonl")
    assert again.once(CELL, "frozen", work) == {"accuracy": 0.5}
    again.once(CELL, "full", work)
    again.once(CELL, "lora", work)
    assert again.account() == "1 figure was known, 2 were made now."
    assert len(made) == 3
