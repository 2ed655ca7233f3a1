"""One request's way through decoder and engine, whatever protocol it came by."""

import numpy as np

from registry.manifest import FEATURES
from services import metrics
from services.answers import Ranking, head_of, rank, require_features
from services.decode import Decoder, ItemLimits
from services.deployment import Deployment, Snapshot
from services.engine import Arrays, Engine
from services.opened import Opened
from services.protocols.native import Inputs
from services.settings import ServeSettings


class Inference:
    """What answers requests in one process; made in the event loop that it serves.

    Args:
        settings: the server's settings.
        deployment: what is served.
        cores: cores that this process may use.
    """

    def __init__(self, settings: ServeSettings, deployment: Deployment, cores: int) -> None:
        self.settings = settings
        self._deployment = deployment
        self._decoder = Decoder(
            threads=settings.decode_threads or cores,
            limits=ItemLimits(settings.max_pixels, settings.max_characters),
            observe=metrics.DECODE_SECONDS.observe,
        )
        self._engine = Engine(
            max_batch_rows=settings.max_batch_rows,
            max_queue_rows=settings.max_queue_rows,
            runners=settings.batches_in_flight,
            observer=metrics.EngineMetrics(),
        )

    @property
    def snapshot(self) -> Snapshot:
        """What is served at this moment."""
        return self._deployment.snapshot

    async def classify(self, opened: Opened, inputs: Inputs, top_k: int, deadline: float) -> list[Ranking]:
        """Return the best labels for each input, in order.

        Args:
            opened: the version that answers.
            inputs: what is asked about.
            top_k: how many labels, at least 1.
            deadline: ``time.perf_counter()`` after which nobody waits any more.

        Raises:
            InvalidInput: an input cannot be prepared; nothing was run.
            MissingOutput: the version has no head.
            Overloaded: too many rows wait already.
            DeadlineExceeded: the deadline passed.
            RuntimeFailure: the version could not be run on these inputs.
        """
        head = opened.head or head_of(opened.manifest)
        return rank(head, await self._outputs(opened, inputs, deadline), top_k)

    async def embed(self, opened: Opened, inputs: Inputs, deadline: float) -> np.ndarray:
        """Return a feature vector for each input, float32 [rows, dimension]; raises as ``classify`` does."""
        require_features(opened.manifest)
        outputs = await self._outputs(opened, inputs, deadline)
        return outputs[FEATURES]

    def forget_all_but(self, snapshot: Snapshot) -> None:
        """Drop the queues of programs that are served no more."""
        self._engine.forget({opened.program.root for opened in snapshot.opened()})

    def close(self) -> None:
        """Stop the threads after the work under way."""
        self._decoder.close()
        self._engine.close()

    async def _outputs(self, opened: Opened, inputs: Inputs, deadline: float) -> Arrays:
        inputs.require(opened.recipe.modality, self.settings.max_rows)
        fields: Arrays
        if inputs.array is None:
            fields = await self._decoder.prepare(opened.recipe, inputs.items, deadline)
        else:
            fields = {opened.program.inputs[0].name: inputs.array}
        return await self._engine.submit(opened.program, fields, deadline)
