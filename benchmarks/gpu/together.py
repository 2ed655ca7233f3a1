"""What the engine does in this process: versions that share a trunk, and its own price."""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from benchmarks.gpu.alone import Part, over, show, timed, to_json
from benchmarks.gpu.device import held_mib, on_gpu
from benchmarks.gpu.network import Network, on_one_trunk, registered, sharing_half
from benchmarks.gpu.pace import Pace
from benchmarks.machine import busy_seconds
from benchmarks.measurement import Measurement
from benchmarks.rounds import Rounds, run_rounds
from benchmarks.spread import Spread, quantile
from benchmarks.table import table
from registry.digests import Digest
from registry.manifest import LOGITS, Manifest
from registry.registry import Registry
from registry.runtime import Session, cpu_quota
from registry.settings import Settings
from services.deployment.plan import Plan
from services.deployment.sessions import Read, Sessions
from services.engine import Answer, Engine, QueueLimits, Route
from services.engine.batch import compute
from services.engine.batch_sizes import LARGEST, SIZES
from services.settings import ServeSettings

STAYS, DETOUR, SEPARATE = "shared", "shared, over the host", "separate"
TURNS, ALL = "one target each, in turns", "all targets at once"
ENGINE = "engine, row by row"

Ask = Callable[[int], Awaitable[object]]
"""Asks one question, whose number is given."""


class Unobserved:
    """An observer that looks away."""

    def batch(self, root: str, rows: int, waits_s: Sequence[float], run_s: float, heads_s: float) -> None:
        """Ignore a batch."""

    def queued(self, root: str, rows: int) -> None:
        """Ignore a queue."""


@dataclass(frozen=True, slots=True)
class Versions:
    """Versions whose runs are open, in one engine or each in one of its own.

    Attributes:
        routes: a way to each one's logits.
        shared: whether they stand in one engine.
        lanes: of each engine.
    """

    routes: tuple[Route, ...] = field(repr=False)
    shared: bool
    lanes: int

    @classmethod
    def sharing(
        cls, manifests: Mapping[Digest, Manifest], read: Read, stays: bool | None = None
    ) -> "Versions":
        """Open versions as a server does."""
        plan, sessions = Plan.of(manifests), _sessions(stays)
        return cls(tuple(_route(plan, sessions, manifests, each, read) for each in manifests), True, _lanes())

    @classmethod
    def separate(cls, manifests: Mapping[Digest, Manifest], read: Read) -> "Versions":
        """Open each version by itself, as other servers do: one instance, one lane."""
        each_alone = [{digest: manifest} for digest, manifest in manifests.items()]
        routes = [
            _route(Plan.of(one), _sessions(None), one, digest, read) for one in each_alone for digest in one
        ]
        return cls(tuple(routes), False, 1)

    def warmed(self, pixels: np.ndarray) -> "Versions":
        """Run every size that the engine makes, twice, and return itself."""
        for size in [size for size in SIZES if size <= len(pixels)] * 2:
            for route in [self.together] if self.shared else self.routes:
                compute(route, _fields(route, pixels[:size]), alone=False)
        return self

    @property
    def together(self) -> Route:
        """The way to all logits, of those that share."""
        return Route.together({f"{number:02}": route for number, route in enumerate(self.routes)})

    def load(self, kind: str, pixels: np.ndarray, pace: Pace) -> Measurement:
        """Measure answers a second while some clients ask without pause, each a row of its own."""
        return asyncio.run(self._load(kind, pixels, pace))

    async def _load(self, kind: str, pixels: np.ndarray, pace: Pace) -> Measurement:
        engines = [
            Engine(QueueLimits(), workers=self.lanes, fill=on_gpu(), observer=Unobserved())
            for _ in (self.routes[:1] if self.shared else self.routes)
        ]
        together = self.together if self.shared and kind == ALL else None

        def to_one(target: int, row: np.ndarray) -> Answer:
            route = self.routes[target]
            return engines[target % len(engines)].submit(route, _fields(route, row))

        async def ask(number: int) -> object:
            row = pixels[number % len(pixels)][None]
            if kind == TURNS:
                return await to_one(number % len(self.routes), row)
            if together is not None:
                return await engines[0].submit(together, _fields(together, row))
            return await asyncio.gather(*(to_one(target, row) for target in range(len(self.routes))))

        try:
            return await closed_loop(ask, pace)
        finally:
            for engine in engines:
                await asyncio.to_thread(engine.close)


async def closed_loop(ask: Ask, pace: Pace) -> Measurement:
    """Let clients ask, each its next question when its last is answered; measure a window.

    An answer that straddles an edge of the window counts by the share of its time that lies inside.
    """
    loaded = time.perf_counter() + pace.warm_s
    closed = loaded + pace.window_s
    rows = 0.0
    times: list[float] = []

    async def client(number: int) -> None:
        nonlocal rows
        while (began := time.perf_counter()) < closed:
            await ask(number)
            number += pace.clients
            ended = time.perf_counter()
            rows += max(0.0, min(ended, closed) - max(began, loaded)) / (ended - began)
            if ended >= loaded:
                times.append(ended - began)

    async def clock() -> tuple[float, float]:
        await asyncio.sleep(pace.warm_s)
        cpu, busy = time.process_time(), busy_seconds()
        await asyncio.sleep(pace.window_s)
        return time.process_time() - cpu, busy_seconds() - busy

    clients = asyncio.gather(*map(client, range(pace.clients)))
    (cpu, busy), _ = await asyncio.gather(clock(), clients)
    p50, p99 = (1e3 * quantile(times, share) for share in (0.5, 0.99))
    return Measurement(pace.window_s, rows, cpu, 0.0, max(0.0, busy - cpu), p50, p99)


def shared_trunk(networks: Sequence[Network], pace: Pace, seed: int) -> Part:
    """Measure versions that share all or half of the first network, beside the same in sessions of their own."""
    network = networks[0]
    other = Network.of(network.source, network.pixels, seed + 1)
    cases = {
        f"{pace.heads} heads on one trunk": list(on_one_trunk(network, pace.heads)),
        "2 versions, half their stages the same": list(sharing_half(network, other)),
    }
    rates: dict[str, list[str]] = {}
    detours: dict[str, list[str]] = {}
    memory: dict[str, list[str]] = {}
    seen: dict[str, object] = {}
    for number, (case, pieces) in enumerate(cases.items()):
        with (
            tempfile.TemporaryDirectory(prefix="cultivar-gpu-") as home,
            Registry.open(Settings.read(home)) as registry,
        ):
            manifests = registered(registry, network.source, f"case-{number}", pieces)
            held, loaded = _opened(manifests, registry.blob, network.pixels)
        results = _shared_or_not(loaded, network.pixels, pace, seed)
        rates |= {f"{case}, {kind}": _versus(results, kind, SEPARATE) for kind in (TURNS, ALL)}
        detours |= {f"{case}, {size}": _versus(results, f"{size}", DETOUR) for size in pace.few}
        memory[case] = ["not known" if mib is None else f"{mib}" for mib in held.values()]
        seen[case] = {**to_json(results), "device_mib": held}
    text = "\n".join(
        [
            table("answers/s, ms", (STAYS, SEPARATE, "times as many"), rates),
            table("rows of a run: rows/s, ms", ("stays there", "over the host", "times as fast"), detours),
            table("MiB of the device", (STAYS, DETOUR, SEPARATE), memory),
        ]
    )
    return text, seen


def engine(networks: Sequence[Network], pace: Pace, seed: int) -> Part:
    """Measure the engine on single rows beside ONNX Runtime on whole batches, on one lane and on two."""
    rows: dict[str, list[str]] = {}
    seen: dict[str, object] = {}
    for network in networks:
        with (
            tempfile.TemporaryDirectory(prefix="cultivar-gpu-") as home,
            Registry.open(Settings.read(home)) as registry,
        ):
            manifests = registered(registry, network.source, "one", [[*network.trunk, network.head]])
            served = Versions.sharing(manifests, registry.blob).warmed(network.pixels)
        model = network.whole()
        jobs: dict[str, Callable[[], Measurement]] = {
            ENGINE: partial(served.load, TURNS, network.pixels, pace)
        }
        for size in pace.buckets:
            session = Session(model, name=network.spec)
            for lanes in (1, 2):
                step = partial(session.run, network.feeds(size), [LOGITS])
                jobs[f"batch {size}, lanes {lanes}"] = timed(step, size, pace.window_s, lanes)
        results = run_rounds(jobs, pace.rounds, seed)
        raw = max((name for name in jobs if name != ENGINE), key=lambda name: _rate(results[name]))
        share = over(results[ENGINE], results[raw]).show()
        rows[network.spec] = [show(results[ENGINE]), raw, show(results[raw]), share]
        seen[network.spec] = to_json(results)
    columns = (f"engine at {pace.clients}: rows/s, ms", "best of raw", "rows/s, ms", "engine over raw")
    return table("network", columns, rows), seen


def _opened(
    manifests: Mapping[Digest, Manifest], read: Read, pixels: np.ndarray
) -> tuple[dict[str, int | None], dict[str, Versions]]:
    """Open versions in every way, one after another; return what the device holds more after each, and them."""
    ways: dict[str, Callable[[], Versions]] = {
        STAYS: partial(Versions.sharing, manifests, read, True),
        DETOUR: partial(Versions.sharing, manifests, read, False),
        SEPARATE: partial(Versions.separate, manifests, read),
    }
    held: dict[str, int | None] = {}
    loaded: dict[str, Versions] = {}
    for way, open_ in ways.items():
        before = held_mib()
        loaded[way] = open_().warmed(pixels)
        after = held_mib()
        held[way] = None if before is None or after is None else after - before
    return held, loaded


def _shared_or_not(loaded: Mapping[str, Versions], pixels: np.ndarray, pace: Pace, seed: int) -> Rounds:
    """Measure the engine on versions that share and on separate ones, and batches with and without the detour."""
    jobs: dict[str, Callable[[], Measurement]] = {
        f"{kind}, {way}": partial(loaded[way].load, kind, pixels, pace)
        for kind in (TURNS, ALL)
        for way in (STAYS, SEPARATE)
    }
    for way in (STAYS, DETOUR):
        route = loaded[way].together
        for size in pace.few:
            step = partial(compute, route, _fields(route, pixels[:size]), alone=False)
            jobs[f"{size}, {way}"] = timed(step, size, pace.window_s)
    return run_rounds(jobs, pace.rounds, seed)


def _versus(results: Mapping[str, Sequence[Measurement]], what: str, way: str) -> list[str]:
    ours, theirs = results[f"{what}, {STAYS}"], results[f"{what}, {way}"]
    return [show(ours), show(theirs), over(ours, theirs).show()]


def _rate(several: Sequence[Measurement]) -> float:
    return Spread.of([each.rows_per_s for each in several]).median


def _route(
    plan: Plan, sessions: Sessions, manifests: Mapping[Digest, Manifest], version: Digest, read: Read
) -> Route:
    return sessions.route(plan.paths[version], manifests[version].signature.inputs, read).towards(LOGITS)


def _sessions(stays: bool | None) -> Sessions:
    cores = cpu_quota()
    return Sessions(threads=max(1, cores // _lanes()), cores=cores, largest=LARGEST, stays=stays)


def _lanes() -> int:
    return ServeSettings().parallel_batches(cpu_quota(), gpu=on_gpu())


def _fields(route: Route, pixels: np.ndarray) -> dict[str, np.ndarray]:
    return {route.inputs[0].name: pixels}
