"""The training loop: batches, schedule, early stopping, mixed precision on a GPU."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapters.configuration import check
from adapters.datasets.rows import PreparedRows
from adapters.features import batches, tensors
from adapters.sources.stages import Fields, FrozenStage, StageRun
from registry.errors import AdaptationError
from registry.progress import Progress

EVALUATION_ROWS = 64
PIXELS = "pixels"

_POOLED_BATCHES = 50
_HEAVIEST = 100.0


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """How to train.

    Attributes:
        epochs: passes over the examples, at least 1.
        batch_size: examples a step, at least 2 (a single one has no batch statistics).
        optimiser: ``sgd`` (Nesterov momentum 0.9) or ``adamw``.
        learning_rate: its peak, for the network's own parameters.
        head_factor: the head's learning rate as a multiple of it.
        weight_decay: applied to weights of two or more dimensions, but not to biases and the scales of
            normalisation layers.
        warmup: share of all steps over which the rate rises linearly from 0; a half cosine down to 0 follows.
        clip: largest norm of a gradient over all parameters.
        label_smoothing: share of the target spread over all labels, 0 up to 1.
        patience: epochs without a lower validation loss before training stops; None never stops early. With a
            validation set the best epoch's weights are kept.
        augment: random translations of up to an eighth of a side, and slight changes of brightness and
            contrast. Pictures are never mirrored, as that would change letters and digits.
        batch_norm: ``learn`` uses each batch's statistics and updates the running ones; ``keep`` uses the
            unchanged running statistics, so that training and serving compute the same. Scales and shifts are
            trained in both cases.
        layer_decay: the ratio of a stage's learning rate to that of the stage above it, above 0 to 1
            (layer-wise decay: ULMFiT's "discriminative fine-tuning", Howard and Ruder, 2018).
        unfreeze: ``at-once``; or ``gradual``: the head alone at first, then one stage after another
            from the top, all of them from the middle of the epochs on (ULMFiT).
        class_weights: ``equal``; or ``balanced``: a label's examples get the weight N / (labels x examples of
            the label), as in scikit-learn; for multilabel a label's presence gets the weight absences /
            presences, at most 100.
    """

    epochs: int
    batch_size: int
    optimiser: Literal["sgd", "adamw"]
    learning_rate: float
    head_factor: float
    weight_decay: float
    warmup: float
    clip: float
    label_smoothing: float
    patience: int | None
    augment: bool
    batch_norm: Literal["learn", "keep"]
    layer_decay: float = 1.0
    unfreeze: Literal["at-once", "gradual"] = "at-once"
    class_weights: Literal["equal", "balanced"] = "equal"

    def __post_init__(self) -> None:
        def demand(holds: bool, name: str, want: str) -> None:
            check(holds, "training", name, want, getattr(self, name))

        demand(1 <= self.epochs <= 100_000, "epochs", "1 to 100,000")
        demand(2 <= self.batch_size <= 65_536, "batch_size", "2 to 65,536")
        demand(self.optimiser in ("sgd", "adamw"), "optimiser", "sgd or adamw")
        demand(0 < self.learning_rate < math.inf, "learning_rate", "above 0")
        demand(0 < self.head_factor < math.inf, "head_factor", "above 0")
        demand(self.batch_norm in ("learn", "keep"), "batch_norm", "learn or keep")
        demand(0 < self.layer_decay <= 1, "layer_decay", "above 0 and at most 1")
        demand(self.unfreeze in ("at-once", "gradual"), "unfreeze", "at-once or gradual")
        demand(self.class_weights in ("equal", "balanced"), "class_weights", "equal or balanced")
        demand(0 <= self.weight_decay < math.inf, "weight_decay", "0 or more")
        demand(0 <= self.warmup < 1, "warmup", "a share from 0 up to 1")
        demand(self.clip > 0, "clip", "above 0")
        demand(0 <= self.label_smoothing < 1, "label_smoothing", "a share from 0 up to 1")
        demand(self.patience is None or self.patience >= 1, "patience", "1 or more, or absent")

    def steps(self, examples: int) -> int:
        """Return the total number of steps for a number of examples."""
        return self.epochs * len(_slices(examples, self.batch_size))


@dataclass(frozen=True, slots=True)
class Examples:
    """Training data: rows and their targets.

    Attributes:
        rows: prepared examples, or the frozen stages' outputs for them.
        index: the selected rows, int64 [N].
        targets: their label indices, int64 [N], or for multilabel indicators, uint8 [N, labels].
    """

    rows: PreparedRows
    index: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    @property
    def several(self) -> bool:
        """Whether an example can have any number of labels."""
        return self.targets.ndim == 2

    def batch(self, places: np.ndarray, device: torch.device) -> tuple[dict[str, Tensor], Tensor]:
        """Return the fields and targets of some rows, positions 0 up to N, on a device."""
        fields = tensors(self.rows.batch(self.index[places]), device)
        return fields, torch.from_numpy(self.targets[places]).to(device)

    def slices(self, order: np.ndarray, size: int) -> list[np.ndarray]:
        """Split an order of positions into batches of similar lengths.

        Rows are sorted by length within about fifty batches, like "group by length" in transformers, so the
        order stays random overall.
        """
        lengths = self.rows.lengths(self.index)
        if lengths.min() == lengths.max():
            return [order[rows] for rows in _slices(len(order), size)]
        pool = _POOLED_BATCHES * size
        pools = [order[start : start + pool] for start in range(0, len(order), pool)]
        ranked = np.concatenate([each[np.argsort(lengths[each], kind="stable")] for each in pools])
        cut = [ranked[rows] for rows in _slices(len(ranked), size)]
        # The first position in the order determines the first batch, which is as random as the order.
        return [cut[at] for at in np.argsort(order[: len(cut)])]


@dataclass(frozen=True, slots=True)
class Epoch:
    """Metrics of one epoch.

    Attributes:
        number: from 1.
        loss: mean training loss.
        rate: learning rate at its last step.
        validation_loss: mean cross-entropy on the validation set, or None.
        validation_accuracy: share of correct predictions there, or None.
    """

    number: int
    loss: float
    rate: float
    validation_loss: float | None = None
    validation_accuracy: float | None = None

    def to_json(self) -> dict[str, float]:
        """Return the available metrics as plain values."""
        figures = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in figures.items() if value is not None}


class Callback:
    """Hooks into the training loop; by default they do nothing."""

    def on_start(self, network: nn.Module, plan: TrainingPlan) -> None:
        """Before the first step."""

    def on_step(self, network: nn.Module, loss: float) -> None:
        """After every step."""

    def on_epoch(self, network: nn.Module, epoch: Epoch) -> None:
        """After every epoch."""

    def on_end(self, network: nn.Module, history: Sequence[Epoch]) -> None:
        """After the last epoch, with the final weights."""


class Stopwatch(Callback):
    """Measures the time of steps, except the first one, which allocates memory.

    Args:
        clock: returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ends: list[float] = []

    def on_step(self, network: nn.Module, loss: float) -> None:
        """Record the end of a step."""
        self._ends.append(self._clock())

    @property
    def seconds(self) -> float:
        """Mean time of a step in seconds; needs two or more steps."""
        return (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)


class _Best:
    """Keeps the weights of the epoch with the lowest validation loss, and counts the epochs since."""

    def __init__(self, patience: int | None) -> None:
        self._patience = patience
        self._loss = math.inf
        self._since = 0
        self._state: dict[str, Tensor] | None = None

    def see(self, network: nn.Module, loss: float) -> None:
        if loss < self._loss:
            self._loss, self._since = loss, 0
            self._state = {name: value.detach().clone() for name, value in network.state_dict().items()}
        else:
            self._since += 1

    @property
    def exhausted(self) -> bool:
        return self._patience is not None and self._since >= self._patience

    def restore(self, network: nn.Module) -> None:
        if self._state is not None:
            network.load_state_dict(self._state)


class _Precision:
    """Mixed precision on a GPU: bfloat16, or float16 with a scaled loss; float32 on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._on = device.type == "cuda"
        half = self._on and not torch.cuda.is_bf16_supported()
        self._dtype = torch.float16 if half else torch.bfloat16
        self._scaler = torch.amp.GradScaler(device.type, enabled=half)

    def logits(self, network: nn.Module, fields: Fields) -> Tensor:
        with torch.autocast(self._device.type, dtype=self._dtype, enabled=self._on):
            logits: Tensor = network(fields)
        return logits.float()

    def step(self, loss: Tensor, optimiser: torch.optim.Optimizer, clip: float) -> None:
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch's has no types
        self._scaler.unscale_(optimiser)
        parameters = [each for group in optimiser.param_groups for each in group["params"]]
        nn.utils.clip_grad_norm_(parameters, clip)
        self._scaler.step(optimiser)
        self._scaler.update()
        optimiser.zero_grad(set_to_none=True)


class _Loss:
    """Cross-entropy; binary for each label if examples can have several."""

    def __init__(self, examples: Examples, labels: int, plan: TrainingPlan, device: torch.device) -> None:
        self._several = examples.several
        self._smoothing = plan.label_smoothing
        self._weights: Tensor | None = None
        if plan.class_weights == "balanced":
            self._weights = _class_weights(examples, labels).to(device)

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self._several:
            wanted = targets.float() * (1 - self._smoothing) + self._smoothing / 2
            return F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=self._weights)
        return F.cross_entropy(logits, targets, self._weights, label_smoothing=self._smoothing)


def _class_weights(examples: Examples, labels: int) -> Tensor:
    if examples.several:
        present = examples.targets.sum(axis=0).astype(np.float64)
        weights = np.clip((len(examples) - present) / np.maximum(present, 1), 0.01, _HEAVIEST)
    else:
        counts = np.bincount(examples.targets, minlength=labels)
        weights = len(examples) / (labels * np.maximum(counts, 1))
    return torch.from_numpy(weights.astype(np.float32))


def train(
    body: nn.Module,
    head: nn.Module,
    examples: Examples,
    plan: TrainingPlan,
    *,
    seed: int,
    device: torch.device,
    progress: Progress,
    validation: Examples | None = None,
    callbacks: Sequence[Callback] = (),
) -> tuple[Epoch, ...]:
    """Train a body and a head in place; afterwards they are in eval mode on the CPU.

    The state of torch's global random generators is restored in any case.

    Args:
        body: maps fields to features; frozen stages in it are not changed.
        head: maps features to logits.
        examples: the training examples, at least two.
        plan: the training settings.
        seed: seed of order, dropout and augmentation.
        device: the device to run on.
        progress: shows the progress.
        validation: data for early stopping; without it every epoch is run and the last weights are kept.
        callbacks: called in order.

    Raises:
        AdaptationError: the loss is no longer finite.
    """
    network = nn.Sequential(body, head)
    with _random(seed, device):
        network.to(device)
        try:
            history = _epochs(network, examples, validation, plan, seed, device, progress, callbacks)
        finally:
            network.to("cpu").train(False)
    return history


def _epochs(
    network: nn.Sequential,
    examples: Examples,
    validation: Examples | None,
    plan: TrainingPlan,
    seed: int,
    device: torch.device,
    progress: Progress,
    callbacks: Sequence[Callback],
) -> tuple[Epoch, ...]:
    order = np.random.default_rng(seed)
    optimiser = _optimiser(network, plan)
    steps = plan.steps(len(examples))
    loss_of = _Loss(examples, _width(network), plan, device)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _Cosine(steps, plan.warmup))
    precision = _Precision(device)
    best = _Best(plan.patience)
    history: list[Epoch] = []
    for callback in callbacks:
        callback.on_start(network, plan)
    with progress.step("training", plan.epochs) as step:
        for number in range(1, plan.epochs + 1):
            _train_mode(network, plan, number)
            total = 0.0
            for places in examples.slices(order.permutation(len(examples)), plan.batch_size):
                fields, targets = examples.batch(places, device)
                if plan.augment and PIXELS in fields:
                    fields[PIXELS] = _augment(fields[PIXELS], order)
                loss = loss_of(precision.logits(network, fields), targets)
                value = loss.item()
                if not math.isfinite(value):
                    raise AdaptationError(
                        f"the training loss became {value} in epoch {number}; "
                        f"try a learning rate below {plan.learning_rate:g}"
                    )
                precision.step(loss, optimiser, plan.clip)
                schedule.step()
                total += value * len(targets)
                for callback in callbacks:
                    callback.on_step(network, value)
            epoch = _measured(network, number, total / len(examples), schedule, validation, device)
            history.append(epoch)
            for callback in callbacks:
                callback.on_epoch(network, epoch)
            step.advance(1, _note(epoch))
            if epoch.validation_loss is not None:
                best.see(network, epoch.validation_loss)
                if best.exhausted:
                    break
    best.restore(network)
    for stage in _stages(network[0]):
        stage.requires_grad_(True)
    for callback in callbacks:
        callback.on_end(network, history)
    return tuple(history)


def _stages(body: nn.Module) -> list[nn.Module]:
    """Return the trained stages of a body, starting at the input."""
    runs = [
        part
        for part in (body, *body.children())
        if isinstance(part, StageRun) and not isinstance(part, FrozenStage)
    ]
    return [stage for run in runs for stage in run.stages.values()]


def _width(network: nn.Sequential) -> int:
    """Return the number of a head's labels."""
    head = network[1]
    assert isinstance(head, nn.Linear), "techniques train linear heads"
    return head.out_features


def _train_mode(network: nn.Sequential, plan: TrainingPlan, epoch: int) -> None:
    """Unfreeze the stages that are trained in an epoch; the others stay in eval mode."""
    network.train(True)
    if plan.unfreeze == "gradual":
        stages = _stages(network[0])
        opened = (
            len(stages)
            if plan.epochs == 1
            else min(len(stages), 2 * (epoch - 1) * len(stages) // plan.epochs)
        )
        for place, stage in enumerate(stages):
            learns = place >= len(stages) - opened
            stage.requires_grad_(learns)
            stage.train(learns)
    if plan.batch_norm == "keep":
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train(False)


def _measured(
    network: nn.Module,
    number: int,
    loss: float,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    validation: Examples | None,
    device: torch.device,
) -> Epoch:
    rate = float(schedule.get_last_lr()[0])
    if validation is None:
        return Epoch(number, loss, rate)
    logits = torch.from_numpy(predict(network, validation, device))
    targets = torch.from_numpy(validation.targets)
    if validation.several:
        right = ((logits > 0) == targets.bool()).all(dim=1)
        cost = F.binary_cross_entropy_with_logits(logits, targets.float())
    else:
        right = logits.argmax(dim=1) == targets
        cost = F.cross_entropy(logits, targets)
    return Epoch(number, loss, rate, cost.item(), right.float().mean().item())


@torch.no_grad()
def predict(network: nn.Module, examples: Examples, device: torch.device) -> np.ndarray:
    """Return logits, float32 [N, labels], of examples, in eval mode; the network is on that device."""
    network.train(False)
    found: np.ndarray | None = None
    for places in batches(examples.rows, examples.index, EVALUATION_ROWS):
        fields, _ = examples.batch(places, device)
        logits = network(fields).float().cpu().numpy()
        if found is None:
            found = np.empty((len(examples), logits.shape[1]), np.float32)
        found[places] = logits
    assert found is not None, "there is at least one example"
    return found


def _slices(count: int, size: int, smallest: int = 2) -> list[slice]:
    """Split a range into batches; a last batch below the smallest size is added to the previous one."""
    starts = list(range(0, count, size))
    if len(starts) > 1 and count - starts[-1] < smallest:
        starts.pop()
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], count], strict=True)]


def _optimiser(network: nn.Sequential, plan: TrainingPlan) -> torch.optim.Optimizer:
    """Return the optimiser, with groups for the head and every stage, decayed and not."""
    groups = []
    stages = _stages(network[0])
    if not stages:  # a body without stages
        stages = [network[0]]
    factors = [plan.layer_decay ** (len(stages) - 1 - place) for place in range(len(stages))]
    for part, factor in zip([*stages, network[1]], [*factors, plan.head_factor], strict=True):
        free = [each for each in part.parameters() if each.requires_grad]
        for decayed in (True, False):
            chosen = [each for each in free if (each.ndim > 1) is decayed]
            if chosen:
                groups.append(
                    {
                        "params": chosen,
                        "lr": plan.learning_rate * factor,
                        "weight_decay": plan.weight_decay * decayed,
                    }
                )
    if plan.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=plan.learning_rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=plan.learning_rate)


@dataclass(frozen=True, slots=True)
class _Cosine:
    """Share of the peak rate at a step: linear warm-up, then half a cosine down to 0."""

    steps: int
    warmup: float

    def __call__(self, step: int) -> float:
        climb = math.ceil(self.steps * self.warmup)
        if step < climb:
            return (step + 1) / climb
        return 0.5 * (1 + math.cos(math.pi * (step - climb) / max(1, self.steps - climb)))


def _augment(pixels: Tensor, order: np.random.Generator) -> Tensor:
    """Shift a batch of pictures, uint8 [N, H, W, C], by up to an eighth, and vary brightness and contrast.

    Uncovered areas repeat the edge, so that no frame reveals the shift.
    """
    count, height, width, _ = pixels.shape
    down = torch.from_numpy(order.integers(-(height // 8), height // 8 + 1, count))
    across = torch.from_numpy(order.integers(-(width // 8), width // 8 + 1, count))
    rows = (torch.arange(height) + down[:, None]).clamp(0, height - 1).to(pixels.device)
    columns = (torch.arange(width) + across[:, None]).clamp(0, width - 1).to(pixels.device)
    picture = torch.arange(count, device=pixels.device)
    moved = pixels[picture[:, None, None], rows[:, :, None], columns[:, None, :]]
    contrast = torch.from_numpy(order.uniform(0.9, 1.1, (count, 1, 1, 1))).to(pixels.device, torch.float32)
    brightness = torch.from_numpy(order.uniform(-12, 12, (count, 1, 1, 1))).to(pixels.device, torch.float32)
    return ((moved.float() - 127.5) * contrast + 127.5 + brightness).round().clamp(0, 255).to(torch.uint8)


def _note(epoch: Epoch) -> str:
    if epoch.validation_accuracy is None:
        return f"loss {epoch.loss:.3f}"
    return f"loss {epoch.loss:.3f}, validation {epoch.validation_accuracy:.1%}"


@contextmanager
def _random(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators for a block, and restore their state after it."""
    devices = [torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield
