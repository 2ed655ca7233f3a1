"""What clients see while versions come and go."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from registry.registry import Registry
from tests.builders import picture, publish, tiny
from tests.contracts.http.asking import PNG, Asking, entry_of, metrics, refused, wait_for
from tests.contracts.http.running import Running


class Promotions(Asking):
    """Versions promoted, damaged and missing while requests come."""

    def test_promotions_under_load_fail_no_request(self, running: Running) -> None:
        """Every answer comes from a version that was in production at some moment of its request."""
        with Registry.open(running.registry) as registry:
            versions = [publish(registry, tiny("letters/moving", seed=seed)) for seed in (1, 2, 3)]
            reigns = [(0.0, float("inf"), str(versions[0].ref))]
            registry.promote(versions[0].ref, "production")
            wait_for(lambda: _production(running, "moving") == str(versions[0].ref))
            with _load(running, "moving", clients=4) as answers:
                for move in (1, 2, None, None, 2, 0):
                    begun = time.monotonic()
                    if move is None:
                        ref = str(registry.rollback("moving").ref)
                    else:
                        ref = str(registry.promote(versions[move].ref, "production").ref)
                    reigns.append((begun, float("inf"), ref))
                    wait_for(lambda ref=ref: _production(running, "moving") == ref)
                    start, _, old = reigns[-2]
                    reigns[-2] = (start, time.monotonic(), old)
        assert len(answers) > 50
        for began, ended, status, by in answers:
            assert status == 200
            assert any(start <= ended and began <= stop and by == reign for start, stop, reign in reigns)
        assert {ref for *_, ref in answers} == {str(version.ref) for version in versions}

    def test_a_damaged_version_is_refused_while_the_old_one_serves(
        self, running: Running, client: httpx.Client
    ) -> None:
        with Registry.open(running.registry) as registry:
            good, bad, next_ = (
                publish(registry, tiny("letters/fragile", seed=seed)) for seed in (41, 42, 43)
            )
            registry.promote(good.ref, "production")
            wait_for(lambda: _production(running, "fragile") == str(good.ref))
            path = registry.blob_path(registry.manifest(bad).segments[-1].digest)
            damaged = bytearray(path.read_bytes())
            damaged[len(damaged) // 2] ^= 1
            path.chmod(0o600)
            path.write_bytes(damaged)
            registry.promote(bad.ref, "production")
            wait_for(lambda: entry_of(client, "fragile")["state"] == "stale")
            answer = client.post("/v1/classify/fragile", content=picture(), headers=PNG)
            assert answer.json()["ref"] == str(good.ref)
            refusal = {"ref": str(bad.ref), "reason": "DamagedBlob"}
            assert entry_of(client, "fragile")["refused"] == refusal
            ready = client.get("/readyz")
            assert ready.status_code == 200
            assert ready.json()["refused"] == [{"target": "fragile", "stage": "production", **refusal}]
            assert metrics(client)['cultivar_swaps_total{outcome="refused"}'] >= 1
            assert str(running.registry.home) not in ready.text + answer.text + client.get("/v1/targets").text
            registry.promote(next_.ref, "production")
            wait_for(lambda: entry_of(client, "fragile")["state"] == "ready")
        assert client.post("/v1/classify/fragile", content=picture(), headers=PNG).json()["ref"] == str(
            next_.ref
        )

    def test_a_target_that_nothing_answers_for_is_unavailable(
        self, running: Running, client: httpx.Client
    ) -> None:
        with Registry.open(running.registry) as registry:
            version = publish(registry, tiny("letters/broken", seed=9))
            path = registry.blob_path(registry.manifest(version).segments[-1].digest)
            path.unlink()
            registry.promote(version.ref, "production")
            wait_for(lambda: "broken" in client.get("/readyz").json()["degraded"])
            answer = client.post("/v1/classify/broken", content=picture(), headers=PNG)
            refused(answer, 503, "target_unavailable")
            assert answer.headers["retry-after"]
            assert entry_of(client, "broken")["state"] == "unavailable"
            registry.promote(version.ref, "retired")
            wait_for(lambda: client.get("/readyz").json()["degraded"] == [])
        refused(client.post("/v1/classify/broken", content=picture(), headers=PNG), 404, "unknown_target")


def _production(running: Running, target: str) -> str | None:
    answer = httpx.post(f"{running.url}/v1/classify/{target}", content=picture(), headers=PNG)
    version: str | None = answer.headers.get("x-cultivar-version")
    return version


@contextmanager
def _load(
    running: Running, target: str, clients: int
) -> Iterator[list[tuple[float, float, int, str | None]]]:
    """Send pictures from several clients without pause; note when each was sent, answered, and by whom."""
    answers: list[tuple[float, float, int, str | None]] = []
    over = threading.Event()

    def send() -> None:
        with httpx.Client(base_url=running.url, timeout=20) as client:
            while not over.is_set():
                began = time.monotonic()
                answer = client.post(f"/v1/classify/{target}", content=picture(), headers=PNG)
                ended = time.monotonic()
                answers.append((began, ended, answer.status_code, answer.headers.get("x-cultivar-version")))

    threads = [threading.Thread(target=send) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()
