"""Counting: cheap in memory, and the same figures as counting one by one."""

import asyncio
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

from services.metrics.tally import FLUSH_S, Tallies, Tally
from services.process.server import ROOT

BOUNDS = (0.1, 0.5, 1.0)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_a_tally_writes_what_observing_one_by_one_writes() -> None:
    draw = random.Random(1)
    values = [draw.uniform(0, 2) for _ in range(1000)] + [0.0, *BOUNDS, 100.0, -1.0]
    tallies = Tallies()
    gathered, single = (CollectorRegistry() for _ in range(2))
    tally = tallies.of_histogram(Histogram("x", "x", buckets=BOUNDS, registry=gathered))
    histogram = Histogram("x", "x", buckets=BOUNDS, registry=single)
    for number, value in enumerate(values):
        tally.observe(value)
        histogram.observe(value)
        if number % 300 == 0:
            tallies.flush()
    tallies.flush()
    assert _samples(gathered) == pytest.approx(_samples(single))


def test_a_counters_tally_adds_up_and_a_gauges_keeps_the_last(registry: CollectorRegistry) -> None:
    tallies = Tallies()
    counter = tallies.of_counter(Counter("c", "c", registry=registry))
    gauge = tallies.of_gauge(Gauge("g", "g", registry=registry))
    for value in (1, 2, 3):
        counter.observe(value)
        gauge.observe(value)
    assert registry.get_sample_value("c_total") == 0
    tallies.flush()
    assert registry.get_sample_value("c_total") == 6
    assert registry.get_sample_value("g") == 3


def test_no_observation_is_lost_between_threads(registry: CollectorRegistry) -> None:
    tallies = Tallies()
    tally = tallies.of_counter(Counter("c", "c", registry=registry))
    threads = [threading.Thread(target=lambda: [tally.observe(1) for _ in range(20_000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        tallies.flush()
    tallies.flush()
    assert registry.get_sample_value("c_total") == 80_000


def test_the_timer_flushes_and_stopping_flushes_the_rest(registry: CollectorRegistry) -> None:
    async def scenario() -> None:
        tallies.start()
        counter.observe(1)
        await asyncio.sleep(3 * FLUSH_S)
        assert registry.get_sample_value("c_total") == 1
        counter.observe(1)
        tallies.stop()
        assert registry.get_sample_value("c_total") == 2

    tallies = Tallies()
    counter = tallies.of_counter(Counter("c", "c", registry=registry))
    asyncio.run(scenario())


def test_the_timer_outlives_a_flush_that_fails(registry: CollectorRegistry) -> None:
    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
        tallies.start()
        bad.observe(-1)
        await asyncio.sleep(1.5 * FLUSH_S)
        good.observe(1)
        await asyncio.sleep(1.5 * FLUSH_S)
        tallies.stop()

    failures: list[object] = []
    tallies = Tallies()
    bad = tallies.of_counter(Counter("b", "b", registry=registry))
    good: Tally = tallies.of_counter(Counter("c", "c", registry=registry))
    asyncio.run(scenario())
    assert len(failures) == 1
    assert registry.get_sample_value("c_total") == 1


CRASH = """
import os, signal
from services import metrics
metrics.answered("digits", "classify", "ok", 0.25)
metrics.rejected("queue")
metrics.LOADED.labels("digits", "letters/digits@1", "CPU").set(1)
os.kill(os.getpid(), signal.SIGKILL)
"""
SURVIVOR = """
from services import metrics
engine = metrics.EngineMetrics()
metrics.answered("digits", "classify", "ok", 0.25)
engine.batch("sha256:a", 3, [0.1, 0.2], 0.4, 0.001)
engine.queued("sha256:a", 7)
metrics.feature_cache(metrics.HIT)
metrics.settle()
print("settled", flush=True)
input()
"""


def test_a_killed_process_leaves_its_counters_and_takes_its_gauges(tmp_path: Path) -> None:
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    crashed = subprocess.run([sys.executable, "-c", CRASH], env=environment, check=False)
    assert crashed.returncode == -signal.SIGKILL
    with subprocess.Popen(
        [sys.executable, "-c", SURVIVOR], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as survivor:
        assert survivor.stdout is not None
        assert survivor.stdout.readline() == b"settled\n"
        text = _exposed(tmp_path)
        survivor.communicate(b"\n")
    assert 'cultivar_requests_total{operation="classify",outcome="ok",target="digits"} 2.0' in text
    assert 'cultivar_rejected_total{reason="queue"} 1.0' in text
    assert "cultivar_loaded" not in text
    assert 'cultivar_queue_rows{trunk="sha256:a"} 7.0' in text
    assert 'cultivar_phase_seconds_count{phase="queue"} 2.0' in text
    assert 'cultivar_phase_seconds_count{phase="head"} 1.0' in text
    # What the killed one had not written yet is all that is lost.
    assert 'cultivar_request_seconds_count{operation="classify",target="digits"} 1.0' in text


def _exposed(folder: Path) -> str:
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]  # it has no types
    return generate_latest(registry).decode()


def _samples(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("le", "")): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }
