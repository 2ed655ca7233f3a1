"""Common code of the techniques that train a network by gradient descent."""

import math
from collections.abc import Hashable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor, nn

from adapters import calibration, features, freezing, heads
from adapters.datasets.dataset import TRAIN, VALIDATION, Dataset
from adapters.datasets.rows import PreparedRows
from adapters.sources.source import Source
from adapters.sources.stages import CARRIED, Fields, Split, StageRun, Stages
from adapters.techniques.context import Context
from adapters.techniques.effort import TrainingEffort
from adapters.techniques.fitted import Fitted
from adapters.techniques.technique import Technique
from adapters.training import Examples, Stopwatch, TrainingPlan, train
from registry.progress import SILENT

MAX_CARRIED_BYTES = 1 << 30
"""Largest size of cached frozen outputs; larger ones are recomputed in every epoch."""

_TIMED_STEPS = 4
_MOST_EPOCHS = 200
_LEAST_EPOCHS = 10


@dataclass(frozen=True, kw_only=True)
class Trained(Technique):
    """Hyper-parameters of training; where one is None, the rule beside it settles it.

    Attributes:
        epochs: None makes enough of them for ``least_steps`` steps, 10 at least and 200 at most:
            a small dataset needs many passes (BiT-HyperRule's shortest schedule has 500 steps).
        batch_size: examples a step.
        optimiser: ``auto`` is ``adamw`` for networks with layer normalisation (transformers,
            ConvNeXt) and ``sgd`` for the others.
        learning_rate: None takes the technique's rate for the optimiser.
        head_factor: the head's learning rate in multiples of it (10 for a new head: TLlib's examples).
        weight_decay: None is 1e-4 with ``sgd`` and 0.05 with ``adamw``.
        warmup: share of the steps over which the rate climbs.
        clip: largest norm of a gradient.
        label_smoothing: share of the target spread over all labels.
        patience: epochs without a better validation loss before the end; without a validation
            part all epochs are run.
        augment: shift pictures and vary their light at random; nothing is ever mirrored.
        batch_norm: ``learn`` new statistics, or ``keep`` the source's: a head that was solved on the
            network as it is served loses its fit when statistics jump to those of the batch.
        start: the head to begin with: ``zero``, or ``ridge`` or ``logistic`` solved on the features
            as they are before training.
        layer_decay: the learning rate of a stage as a share of that of the one above it; None is 0.9
            with ``adamw`` (AutoGluon's default for transformers, for each block) and 1 with ``sgd``.
        unfreeze: ``at-once``, or ``gradual`` from the top.
        class_weights: ``equal``, or ``balanced`` against rare labels.
        calibrate: scale the logits by a temperature that fits the validation part.
    """

    epochs: int | None = None
    batch_size: int = 32
    optimiser: Literal["auto", "sgd", "adamw"] = "auto"
    learning_rate: float | None = None
    head_factor: float = 10.0
    weight_decay: float | None = None
    warmup: float = 0.1
    clip: float = 1.0
    label_smoothing: float = 0.0
    patience: int | None = 10
    augment: bool = False
    batch_norm: Literal["learn", "keep"] = "learn"
    start: Literal["zero", "ridge", "logistic"] = "zero"
    layer_decay: float | None = None
    unfreeze: Literal["at-once", "gradual"] = "at-once"
    class_weights: Literal["equal", "balanced"] = "equal"
    calibrate: bool = True

    rates: ClassVar[Mapping[str, float]] = {"sgd": 0.01, "adamw": 1e-4}
    least_steps: ClassVar[int] = 500

    def __post_init__(self) -> None:
        self._plan("sgd", 2)

    def plan(self, stages: Stages, examples: int) -> TrainingPlan:
        """Settle every open hyper-parameter for a network and a number of examples."""
        layered = any(isinstance(module, nn.LayerNorm) for module in stages.modules())
        optimiser = self.optimiser if self.optimiser != "auto" else ("adamw" if layered else "sgd")
        return self._plan(optimiser, examples)

    def _plan(self, optimiser: Literal["sgd", "adamw"], examples: int) -> TrainingPlan:
        enough = math.ceil(self.least_steps / math.ceil(examples / max(1, self.batch_size)))
        decay = 1e-4 if optimiser == "sgd" else 0.05
        return TrainingPlan(
            epochs=min(_MOST_EPOCHS, max(_LEAST_EPOCHS, enough)) if self.epochs is None else self.epochs,
            batch_size=self.batch_size,
            optimiser=optimiser,
            learning_rate=self.rates[optimiser] if self.learning_rate is None else self.learning_rate,
            head_factor=self.head_factor,
            weight_decay=decay if self.weight_decay is None else self.weight_decay,
            warmup=self.warmup,
            clip=self.clip,
            label_smoothing=self.label_smoothing,
            patience=self.patience,
            augment=self.augment,
            batch_norm=self.batch_norm,
            layer_decay=(0.9 if optimiser == "adamw" else 1.0)
            if self.layer_decay is None
            else self.layer_decay,
            unfreeze=self.unfreeze,
            class_weights=self.class_weights,
        )

    def boundary(self, stages: Stages) -> int:
        """Return how many stages stay frozen below what is trained: none, unless overridden.

        Raises:
            InvalidSetting: the network has too few stages for the settings.
        """
        return 0

    def effort(self, stages: Stages, learnt: int, held: int) -> TrainingEffort:
        """Return the effort of all epochs, a validation pass after each, and one pass for cached features."""
        plan = self.plan(stages, learnt)
        once = self.start != "zero" or self.boundary(stages) > 0
        return TrainingEffort(
            passes=int(once),
            steps=plan.steps(learnt),
            batch_size=plan.batch_size,
            checks=plan.epochs + int(self.calibrate) if held else 0,
            searches=int(self.start == "logistic"),
            stops_early=held > 0 and plan.patience is not None and plan.patience < plan.epochs,
        )

    def step_kind(self, stages: Stages) -> Hashable:
        """Return where the trained part begins and what is trained in it."""
        return type(self).around, self.boundary(stages), self.augment

    def step_seconds(
        self, source: Source, dataset: Dataset, index: np.ndarray, batch_size: int, context: Context
    ) -> float:
        """Train a network of its own for four steps or more."""
        stages = source.load(None if self.pretrained else context.seed)
        plan = replace(self.plan(stages, len(index)), batch_size=batch_size, epochs=1)
        plan = replace(plan, epochs=math.ceil(_TIMED_STEPS / plan.steps(len(index))))
        head = heads.zero_head(stages.features_dim, len(dataset.labels)).module()
        stopwatch = Stopwatch(context.clock)
        with (
            freezing.frozen(stages, self.boundary(stages)) as split,
            self.around(split.upper, context.seed),
        ):
            body, rows, places = self._feed(stages, split, dataset, index, context)
            train(
                body,
                head,
                Examples(rows, places, dataset.targets(index)),
                plan,
                seed=context.seed,
                device=context.device,
                progress=SILENT,
                callbacks=(stopwatch,),
            )
        return stopwatch.seconds

    def carry(
        self, stages: Stages, frozen: int, dataset: Dataset, context: Context, depth: int | None = None
    ) -> Fitted:
        """Train everything above the first ``frozen`` stages, and a head on it.

        Raises:
            DatasetError: there are fewer than two labels to learn.
            FrozenPartMoved: one of those stages changed.
            AdaptationError: training failed.
        """
        self.demand_labels(dataset)
        index, held = dataset.index(TRAIN), dataset.index(VALIDATION)
        plan = self.plan(stages, len(index))
        head = self._start(stages, dataset, index, context)
        with freezing.frozen(stages, frozen) as split, self.around(split.upper, context.seed):
            body, rows, places = self._feed(stages, split, dataset, np.concatenate([index, held]), context)
            examples = Examples(rows, places[: len(index)], dataset.targets(index))
            validation = Examples(rows, places[len(index) :], dataset.targets(held))
            module = head.module()
            epochs = train(
                body,
                module,
                examples,
                plan,
                seed=context.seed,
                device=context.device,
                progress=context.progress,
                validation=validation if len(held) else None,
                callbacks=context.callbacks,
            )
            if self.calibrate and len(held):
                calibration.calibrate(nn.Sequential(body, module), module, validation)
        return Fitted(
            technique=self.name,
            depth=depth,
            stages=stages,
            frozen=frozen,
            head=module,
            head_after=len(stages),
            labels=dataset.labels,
            config=self.config() | asdict(plan),
            history=tuple(epoch.to_json() for epoch in epochs),
            kind=dataset.kind,
        )

    def around(self, upper: StageRun, seed: int) -> AbstractContextManager[None]:
        """Change what is trained, for a block that trains it; nothing is changed unless overridden.

        Args:
            upper: what is trained.
            seed: of whatever is drawn at random.
        """
        return nullcontext()

    def _start(
        self, stages: Stages, dataset: Dataset, index: np.ndarray, context: Context
    ) -> heads.LinearHead:
        labels = len(dataset.labels)
        if self.start == "zero":
            return heads.zero_head(stages.features_dim, labels)
        with freezing.frozen(stages, len(stages)):
            rows = context.features(stages, dataset, index)
        return heads.fit(self.start, rows, dataset.targets(index), labels, seed=context.seed)

    def _feed(
        self, stages: Stages, split: Split, dataset: Dataset, index: np.ndarray, context: Context
    ) -> tuple[nn.Module, PreparedRows, np.ndarray]:
        """Return the network to train, its rows, and where in them the items at ``index`` are.

        What the frozen part leaves is computed once, unless pictures change in every epoch or it
        would not fit in memory.
        """
        frozen = len(split.lower)
        if frozen == 0:
            return split.upper, dataset.rows, index
        if self.augment or features.carried_bytes(stages, frozen, dataset, index) > MAX_CARRIED_BYTES:
            return _Whole(split), dataset.rows, index
        return split.upper, context.carry(stages, frozen, dataset, index), np.arange(len(index))


class _Whole(nn.Module):
    """Both halves of a split network, one behind the other."""

    def __init__(self, split: Split) -> None:
        super().__init__()
        self.lower = split.lower
        self.upper = split.upper

    def forward(self, fields: Fields) -> Tensor:
        carried = self.upper({**fields, CARRIED: self.lower(fields)})
        assert isinstance(carried, Tensor)
        return carried
