"""What is relied on inside Circus is there, and a version without it is refused before a server starts."""

import pytest
from circus.arbiter import Arbiter  # type: ignore[import-untyped]  # it has no types
from circus.sighandler import SysHandler  # type: ignore[import-untyped]  # it has no types

from services.process.circus_arbiter import check_circus, manage_processes_now


def test_the_circus_that_is_installed_has_what_is_relied_on() -> None:
    check_circus()


def test_another_circus_is_refused_by_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Arbiter, "manage_watchers")
    monkeypatch.setattr(SysHandler, "SIGNALS", [])
    with pytest.raises(RuntimeError, match=r"SysHandler on SIGTERM, Arbiter\.manage_watchers"):
        check_circus()


def test_nothing_happens_before_circus_runs() -> None:
    manage_processes_now()
