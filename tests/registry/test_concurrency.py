"""Several processes at work on one registry at the same time."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from registry.registry import Registry
from registry.settings import Settings
from tests.builders import publish, tiny
from tests.registry import worker
from tests.registry.conftest import Clock


class Processes:
    """Inherit, and provide the fixture ``settings``."""

    def test_registering_on_one_line_gives_numbers_without_gap(self, settings: Settings) -> None:
        answers = worker.together(settings, *(f"register {100 * index} 8" for index in range(4)))
        numbers = [int(word) for words in answers for word in words]
        assert sorted(numbers) == [*range(1, 33)]
        with Registry.open(settings) as registry:
            assert registry.verify().ok
            assert registry.position() == 32

    def test_of_racing_promotions_one_wins(self, settings: Settings) -> None:
        with Registry.open(settings) as registry:
            refs = [publish(registry, tiny(seed=seed)).ref for seed in range(4)]
        words = [word for (word,) in worker.together(settings, *(f"promote 0 {ref}" for ref in refs))]
        assert sorted(words) == ["lost", "lost", "lost", "won"]
        with Registry.open(settings) as registry:
            assert registry.resolve("digits").ref == refs[words.index("won")]
            assert len(registry.history("digits")) == 5

    def test_the_collector_never_takes_what_somebody_publishes(
        self, settings: Settings, clock: Clock
    ) -> None:
        rounds = 9
        # Every round registers, and two in three delete.
        until = 2 * (rounds + 2 * rounds // 3)
        worker.together(settings, f"churn 0 {rounds}", f"churn 99 {rounds}", f"collect {until}")
        with Registry.open(settings, clock=clock) as registry:
            assert registry.verify().ok
            assert len(registry.versions().versions) == 2 * rounds // 3
            registry.collect(grace=timedelta(0))
            assert registry.collect(grace=timedelta(0)).condemned == 0
            assert registry.verify().ok


class TestProcessesOnSqlite(Processes):
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return Settings.read(tmp_path / "home", environment={})


class TestProcessesOnPostgresql(Processes):
    @pytest.fixture
    def settings(self, tmp_path: Path, postgres: Callable[[], str]) -> Settings:
        return Settings.read(tmp_path / "home", postgres(), environment={})


def test_readers_see_every_event_up_to_the_position_they_saw(settings: Settings) -> None:
    process = worker.start(settings, "together", "register 0 10", "register 99 10")
    with Registry.open(settings) as registry:
        position = 0
        while position < 20:
            before, position = position, registry.position()
            assert position >= before
            assert sum(len(registry.history(target)) for target in registry.targets()) >= position
    process.communicate()
