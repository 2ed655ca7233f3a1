"""``contrastive``: contrastive fine-tuning on pairs of texts, then a new head."""

import math
from collections.abc import Hashable
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from adapters import freezing, heads
from adapters.configuration import check
from adapters.datasets.dataset import TRAIN, VALIDATION, Dataset
from adapters.features import tensors
from adapters.sources.source import Source
from adapters.sources.stages import StageRun, Stages
from adapters.techniques.context import Context
from adapters.techniques.effort import TrainingEffort
from adapters.techniques.fitted import Fitted
from adapters.techniques.technique import Technique
from adapters.training import Stopwatch
from registry.errors import AdaptationError, DatasetError
from registry.progress import SILENT

_TIMED_STEPS = 4


@dataclass(frozen=True, kw_only=True)
class Contrastive(Technique):
    """Fine-tunes an encoder on pairs of items, then solves for a head on its features.

    The way of SetFit (Tunstall et al., "Efficient Few-Shot Learning Without Prompts", 2022): as many
    pairs of equal labels as of different ones, whose cosine is trained towards 1 and 0 by
    sentence-transformers' cosine similarity loss. Made for texts and a few items a class.

    Attributes:
        learning_rate: its peak (SetFit's 2e-5).
        batch_size: pairs a step.
        pairs: pairs of each kind that every item begins, in one epoch (SetFit's 20).
        most_steps: steps at most, however many items.
        epochs: passes over the pairs.
        weight_decay: of AdamW.
        warmup: share of the steps over which the rate climbs; a straight line down follows.
        l2: the penalty on the head's weights; None chooses it by cross-validation.
    """

    learning_rate: float = 2e-5
    batch_size: int = 16
    pairs: int = 20
    most_steps: int = 500
    epochs: int = 1
    weight_decay: float = 0.01
    warmup: float = 0.1
    l2: float | None = None

    name: ClassVar[str] = "contrastive"

    def __post_init__(self) -> None:
        def demand(holds: bool, name: str, want: str) -> None:
            check(holds, self.name, name, want, getattr(self, name))

        demand(0 < self.learning_rate < math.inf, "learning_rate", "above 0")
        demand(1 <= self.batch_size <= 4096, "batch_size", "1 to 4,096")
        demand(1 <= self.pairs <= 1000, "pairs", "1 to 1,000")
        demand(1 <= self.most_steps <= 1_000_000, "most_steps", "1 to 1,000,000")
        demand(1 <= self.epochs <= 1000, "epochs", "1 to 1,000")
        demand(0 <= self.weight_decay < math.inf, "weight_decay", "0 or more")
        demand(0 <= self.warmup < 1, "warmup", "a share from 0 up to 1")
        demand(self.l2 is None or self.l2 > 0, "l2", "above 0, or absent")

    def effort(self, stages: Stages, learnt: int, held: int) -> TrainingEffort:
        """Return the steps on pairs, a pass over every example, and the search for the penalty."""
        return TrainingEffort(
            passes=1, steps=self.steps(learnt), batch_size=self.batch_size, searches=int(self.l2 is None)
        )

    def steps(self, examples: int) -> int:
        """Return how many steps of training a number of examples make."""
        return min(self.most_steps, self.epochs * math.ceil(2 * self.pairs * examples / self.batch_size))

    def step_kind(self, stages: Stages) -> Hashable:
        """Return that steps are on pairs."""
        return self.name

    def step_seconds(
        self, source: Source, dataset: Dataset, index: np.ndarray, batch_size: int, context: Context
    ) -> float:
        """Train a network of its own for four steps."""
        stopwatch = Stopwatch(context.clock)
        few = replace(self, most_steps=_TIMED_STEPS, batch_size=batch_size)
        watched = replace(context, progress=SILENT, callbacks=(stopwatch,))
        with freezing.frozen(source.load(), 0) as split, torch.random.fork_rng(devices=[]):
            few._train(split.upper, dataset, index, dataset.targets(index), watched)
        return stopwatch.seconds

    def fit(self, source: Source, dataset: Dataset, context: Context) -> Fitted:
        """Train the encoder on pairs and solve for the head.

        Raises:
            DatasetError: items have several labels each.
            AdaptationError: the loss is no longer finite.
        """
        self.demand_labels(dataset)
        index = dataset.index(TRAIN)
        targets = dataset.targets(index)
        if targets.ndim == 2:
            raise DatasetError(
                f"{self.name} pairs items of equal labels, and these have several each; take another technique"
            )
        stages = source.load()
        with freezing.frozen(stages, 0) as split, torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            history = self._train(split.upper, dataset, index, targets, context)
        learnt = dataset.index(TRAIN, VALIDATION)
        rows = context.features(stages, dataset, learnt)
        stages.split(0)
        stages.train(False)
        head = heads.logistic_head(
            rows, dataset.targets(learnt), len(dataset.labels), l2=self.l2, seed=context.seed
        )
        return Fitted(
            technique=self.name,
            depth=None,
            stages=stages,
            frozen=0,
            head=head.module(),
            head_after=len(stages),
            labels=dataset.labels,
            config=asdict(self) | {"l2": head.l2},
            history=tuple(history),
        )

    def _train(
        self, network: StageRun, dataset: Dataset, index: np.ndarray, targets: np.ndarray, context: Context
    ) -> list[dict[str, float]]:
        from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss

        draw = np.random.default_rng(context.seed)
        loss_of = CosineSimilarityLoss(_Encoder(network))
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
        )
        steps = self.steps(len(index))
        climb = math.ceil(self.warmup * steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: min((step + 1) / max(1, climb), (steps - step) / max(1, steps - climb))
        )
        history: list[dict[str, float]] = []
        network.to(context.device)
        try:
            with context.progress.step("training on pairs", steps) as bar:
                for number in range(1, steps + 1):
                    first, second, equal = _pairs(targets, self.batch_size, draw)
                    sides = [
                        tensors(dataset.rows.batch(index[side]), context.device) for side in (first, second)
                    ]
                    loss = loss_of(sides, torch.from_numpy(equal).to(context.device))
                    value = float(loss.item())
                    if not math.isfinite(value):
                        raise AdaptationError(
                            f"the loss became {value} in step {number}; "
                            f"try a learning rate below {self.learning_rate:g}"
                        )
                    loss.backward()
                    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                    optimiser.step()
                    schedule.step()
                    optimiser.zero_grad(set_to_none=True)
                    history.append({"step": float(number), "loss": value})
                    for callback in context.callbacks:
                        callback.on_step(network, value)
                    bar.advance(1, f"loss {value:.3f}")
        finally:
            network.to("cpu")
        return history


class _Encoder(nn.Module):
    """A network as sentence-transformers' losses call it."""

    def __init__(self, network: StageRun) -> None:
        super().__init__()
        self.network = network

    def forward(self, fields: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": self.network(fields)}


def _pairs(
    targets: np.ndarray, count: int, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw pairs, as often of equal labels as of different ones.

    Returns:
        Places of the first and of the second items, int64 [count], and whether labels are equal,
        float32 [count].
    """
    first = draw.integers(len(targets), size=count)
    equal = np.arange(count) % 2 == 0
    second = np.empty(count, np.int64)
    for place, one in enumerate(first):
        others = np.flatnonzero((targets == targets[one]) == equal[place])
        second[place] = draw.choice(others)
    return first, second, equal.astype(np.float32)
