"""A worker process of a server: deployment, inference and HTTP application."""

import asyncio
import logging
import os
import warnings
from pathlib import Path
from time import perf_counter

from threadpoolctl import threadpool_limits

from registry.registry import Registry
from registry.runtime import CUDA, cpu_quota, limit_tensors, usable_providers
from registry.settings import Settings
from services import metrics
from services.api.admission import Admission
from services.api.allocator import give_memory_back
from services.api.application import HttpApplication
from services.api.auth import Authenticator, TokenCache
from services.deployment.rollout_barrier import FOLDER, RolloutBarrier
from services.deployment.sessions import Sessions
from services.deployment.snapshot import Snapshot
from services.deployment.watcher import DeploymentWatcher
from services.httpd.asgi import Application
from services.httpd.listener import FILE, Counts, share_out
from services.inference.pipeline import InferencePipeline
from services.process import gc_tuning
from services.process.graceful_shutdown import leave_on_sigterm
from services.process.heartbeat import Heartbeats, Pulse
from services.process.parent_death import hold_on
from services.settings import OFF, ServeSettings

_log = logging.getLogger("cultivar.worker")

_JOIN_POLL_S = 0.01


class ServerWorker:
    """Creates, starts and stops the components of one process.

    The constructor does no work; ``start`` is called in the event loop that serves.

    Args:
        settings: the server's settings.
        registry: the registry's settings.

    Attributes:
        inference: the pipeline, or None before ``start`` and after ``stop``.
        authenticator: checks tokens.
    """

    def __init__(self, settings: ServeSettings, registry: Settings) -> None:
        self.settings = settings
        self.inference: InferencePipeline | None = None
        self._registry = registry
        self._deployment: DeploymentWatcher | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stalls: metrics.StallMonitor | None = None
        self._calm = False
        self._lag: str | None = None
        self._pulse: Pulse | None = None
        # A process that ``cultivar serve`` did not start does not know who can reach it: ``auto`` requires tokens.
        self._token_cache = None if settings.auth == OFF else TokenCache(self._connect)
        self.authenticator = Authenticator(self._token_cache)
        self._admission = Admission(
            max_requests=settings.max_requests,
            max_body_bytes=settings.max_body_bytes,
            max_held_bytes=settings.max_held_bytes,
            deadline_s=settings.deadline_s,
        )

    def _connect(self) -> Registry:
        """Open the registry. If its catalog was lost, this fails: an empty one must not be served instead."""
        registry = Registry.open(self._registry, anew=False)
        lag = registry.lag()
        if lag is not None and lag != self._lag:
            _log.warning("an older state of the registry may be served: %s", lag)
        self._lag = lag
        return registry

    @property
    def ready(self) -> bool:
        """Whether the first attempt at loading every target has ended, and the process is not shutting down."""
        return self.inference is not None and self.inference.snapshot.settled and not self._admission.leaving

    def front(self, bentoml: Application | None = None) -> HttpApplication:
        """Return the HTTP application, before or after ``start``; it passes some paths to BentoML's."""
        rows = self.settings.max_rows
        return HttpApplication(lambda: self.inference, self._admission, self.authenticator, rows, bentoml)

    async def start(self) -> None:
        """Start to follow the registry. Errors of the registry do not stop the process; readiness reports them."""
        # NumPy's own threads would spin after each product of a head, and take cores from the sessions
        # (measured: ResNet-18 at one request took 1.4 times as long, and as much CPU).
        threadpool_limits(1, user_api="blas")
        # Python keeps the text of every warning, and clients choose the text of those about broken pictures.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        metrics.settle()
        metrics.TALLIES.start()
        hold_on(self.settings.patience_s)
        leave_on_sigterm(self.settings.drain_s, self._admission.leave)
        settings = self.settings
        limit_tensors(settings.tensor_bytes, processes=settings.workers)
        barrier = _barrier(settings)
        cores = max(1, cpu_quota() // settings.workers)
        lanes = settings.parallel_batches(cores, gpu=usable_providers()[0] == CUDA)
        self._loop = asyncio.get_running_loop()
        self._deployment = DeploymentWatcher(
            self._connect,
            stages=settings.served_stages,
            targets=settings.targets,
            sessions=Sessions(
                threads=settings.model_threads or max(1, cores // lanes),
                cores=settings.model_threads or cores,
                largest=settings.max_batch_rows,
            ),
            poll_s=settings.poll_s,
            barrier=barrier,
            swapped=self._swapped,
        )
        self.inference = InferencePipeline(settings, self._deployment, cores)
        self._deployment.start()
        if self._token_cache is not None:
            self._token_cache.start()
        elif not settings.loopback:
            _log.warning("tokens are off: anybody who can reach %s can send requests", settings.host)
        heartbeats = Heartbeats.inherited()
        if heartbeats is not None:
            self._pulse = Pulse(heartbeats)
        if settings.workers > 1:
            await self._join(barrier, heartbeats)
        if heartbeats is not None:
            heartbeats.serve()
        self._stalls = metrics.StallMonitor()

    async def _join(self, barrier: RolloutBarrier | None, heartbeats: Heartbeats | None) -> None:
        """Wait, before connections are accepted, until the versions are loaded and the other workers are there.

        Until then the other workers can answer, however long it takes. At the start of the server, the first worker
        would otherwise accept, and keep, all early connections.
        """
        limit = perf_counter() + self.settings.flip_s

        def waits() -> bool:
            if self._admission.leaving:
                return False
            return perf_counter() < limit or (heartbeats is not None and heartbeats.others_serve())

        while not self._calm and waits():
            await asyncio.sleep(_JOIN_POLL_S)
        if barrier is None:
            return
        counts = Counts(barrier.folder / FILE)
        while counts.workers < self.settings.workers and perf_counter() < limit:
            await asyncio.sleep(_JOIN_POLL_S)
        share_out(counts)

    async def stop(self) -> None:
        """Finish the current work and release everything."""
        inference, deployment = self.inference, self._deployment
        self.inference = None
        if self._stalls is not None:
            self._stalls.stop()
        if deployment is not None:
            await asyncio.to_thread(deployment.close)
        if self._token_cache is not None:
            await asyncio.to_thread(self._token_cache.close)
        if inference is not None:
            await asyncio.to_thread(inference.close)
        metrics.TALLIES.stop()

    def _swapped(self, snapshot: Snapshot) -> None:
        if snapshot.settled and not self._calm:
            gc_tuning.calm()
            give_memory_back()
            self._calm = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._forget, snapshot)

    def _forget(self, snapshot: Snapshot) -> None:
        if self.inference is not None:
            self.inference.forget_all_but(snapshot)


def _barrier(settings: ServeSettings) -> RolloutBarrier | None:
    """Return the barrier if there are several workers and ``cultivar serve`` started them, else None."""
    folder = os.environ.get(FOLDER)
    if settings.workers == 1 or folder is None:
        return None
    return RolloutBarrier(Path(folder), patience_s=settings.flip_s)
