"""A wall clock that jumps while a server runs: only the expiry of tokens goes by it."""

import shutil
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from registry import instants
from registry.registry import Registry
from registry.settings import Settings
from services.process.server import Server, free_port
from services.settings import ServeSettings
from tests.builders import picture, publish, tiny
from tests.contracts.http import PNG

CLOCK = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long ahead(void) {
    char text[32] = {0};
    int file = open(getenv("CLOCK_AHEAD"), O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    if (read(file, text, sizeof text - 1) < 0) text[0] = 0;
    close(file);
    return atol(text);
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME) now->tv_sec += ahead();
    return failed;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    int failed = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return failed;
}
time_t time(time_t *place) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (place) *place = now.tv_sec;
    return now.tv_sec;
}
"""
DAY_S = 86_400


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_clock_that_jumps_moves_the_expiry_of_tokens_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("cc") is None:
        pytest.skip("this machine has no C compiler to make a clock with")
    source, library, ahead = tmp_path / "clock.c", tmp_path / "clock.so", tmp_path / "ahead"
    source.write_text(CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    settings = Settings.read(tmp_path / "home", actor="tests", environment={})
    with Registry.open(settings) as registry:
        registry.promote(publish(registry, tiny(seed=1)).ref, "production")
        second = publish(registry, tiny(seed=2))
        _, lasting = registry.add_token("lasting")
        _, passing = registry.add_token("passing", expires=instants.now() + timedelta(hours=1))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("CLOCK_AHEAD", str(ahead))
    options = ServeSettings(port=free_port(), auth="required", deadline_s=10.0, poll_s=0.05)
    with (tmp_path / "log").open("wb") as log, Server(options, settings, log.fileno()) as server:
        monkeypatch.delenv("LD_PRELOAD")
        server.wait_until_ready(120)

        def asked(token: str) -> tuple[int, str]:
            headers = PNG | {"Authorization": f"Bearer {token}"}
            answer = httpx.post(
                f"{server.url}/v1/classify/digits", content=picture(), headers=headers, timeout=30
            )
            return answer.status_code, answer.headers.get("X-Cultivar-Version", "")

        assert asked(lasting) == asked(passing) == (200, "letters/digits@1")
        ahead.write_text(str(DAY_S))
        until(lambda: asked(passing)[0] == 401)
        assert asked(lasting) == (200, "letters/digits@1")
        ahead.write_text(str(-DAY_S))
        until(lambda: asked(passing)[0] == 200)
        with Registry.open(settings) as registry:
            registry.promote(second.ref, "production")
        until(lambda: asked(lasting) == (200, "letters/digits@2"))
        ahead.write_text("0")
        assert asked(lasting) == asked(passing) == (200, "letters/digits@2")
    assert "Traceback" not in (tmp_path / "log").read_text()
