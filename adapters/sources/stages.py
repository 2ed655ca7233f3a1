"""A pretrained network as an ordered list of stages, each with one output tensor.

The stages in sequence are the network, from the recipe's fields to ``features``: the input [N, D] of the last
layer. Stages end at pinned cut points. So a version frozen below one of them shares its lower stages with
every other version of the same source. Besides the previous stage's output a stage may take *sides*:
unchanged fields of the recipe, such as a text's ``attention_mask``.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

import torch
from torch import Tensor, nn

from adapters.sources.normalisation import Normalisation
from registry.errors import InvalidValue
from registry.signature import TensorSpec

CARRIED = "h"
"""Name of the tensor that a stage hands to the next one."""

EXAMPLE_ROWS = 2
"""Rows of an example. One row would be taken for a constant."""

EXAMPLE_LENGTH = 8
"""Length of an example's sequences."""

Fields = Mapping[str, Tensor]
NONE: Fields = MappingProxyType({})


class StageRun(nn.Module):
    """Consecutive stages as one module: from fields to the tensor that the last of them leaves.

    Args:
        stages: the modules by name.
        sides: for each stage the names of the sides that it takes.
        entry: the field that the network begins with.
    """

    def __init__(
        self, stages: "OrderedDict[str, nn.Module]", sides: Sequence[Sequence[str]], entry: str
    ) -> None:
        super().__init__()
        # A module's key may hold no dot.
        self.stages = nn.ModuleDict({name.replace(".", "/"): stage for name, stage in stages.items()})
        self._sides = tuple(map(tuple, sides))
        self._entry = entry

    def __len__(self) -> int:
        return len(self.stages)

    def forward(self, fields: Fields | Tensor) -> Tensor:
        """Run every stage on ``h`` where the fields hold it, else on the network's first field.

        A network without sides takes that one tensor as it is.
        """
        if isinstance(fields, Tensor):
            fields = {self._entry: fields}
        value = fields[CARRIED] if CARRIED in fields else fields[self._entry]
        for stage, names in zip(self.stages.values(), self._sides, strict=True):
            value = stage(value, *(fields[name] for name in names))
        return value


class FrozenStage(StageRun):
    """Frozen lower stages: always in eval mode and without gradients, regardless of ``train``."""

    def __init__(
        self, stages: "OrderedDict[str, nn.Module]", sides: Sequence[Sequence[str]], entry: str
    ) -> None:
        super().__init__(stages, sides, entry)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode: batch-norm statistics and dropout would otherwise change what is shared."""
        return super().train(False)

    def forward(self, fields: Fields | Tensor) -> Tensor:
        """Run every stage, without recording gradients."""
        with torch.no_grad():
            return super().forward(fields)


@dataclass(frozen=True, slots=True)
class Split:
    """Stages divided at a boundary; both halves share their parameters with the stages.

    Attributes:
        lower: the frozen part, from the recipe's fields to the carried tensor; empty (it returns
            its first field) where everything is trained.
        upper: the trained part, from the carried tensor ``h`` (or the recipe's fields) to features
            [N, D]; empty where everything is frozen.
    """

    lower: FrozenStage
    upper: StageRun


class Stages(nn.Module):
    """A network from the recipe's fields to features, cut into stages, and the head it came with.

    Attributes:
        architecture: name of the network's design, part of every weights digest.
        names: the stages' names from the input on: the module path that each one ends at, or
            ``pool`` where pooling is a function without a path. The last one leaves features.
        stages: the modules, one for each name. The first takes the first of ``inputs`` (pixels,
            uint8 [N, H, W, C], which it normalises; or ``input_ids``, int64 [N, S]); each of the
            others takes what the one before it leaves; the last leaves features, float32
            [N, features_dim]. Sides follow as further arguments.
        sides: for each stage the fields that it takes besides.
        features_dim: length of a feature vector.
        input_size: (height, width) in pixels that the weights were made for; empty for texts.
        normalisation: what the first stage begins with; None for texts.
        head: the network's own output layer, or None. A linear layer on features, except where
            ``head_after`` says otherwise.
        head_after: number of stages that run below ``head``: ``len(names)``, or fewer where the
            head hangs off a map before pooling (SqueezeNet's convolution).
    """

    def __init__(
        self,
        architecture: str,
        stages: "OrderedDict[str, nn.Module]",
        *,
        features_dim: int,
        input_size: tuple[int, ...] = (),
        normalisation: Normalisation | None = None,
        inputs: tuple[TensorSpec, ...] | None = None,
        sides: Sequence[Sequence[str]] | None = None,
        head: nn.Module | None = None,
        head_after: int | None = None,
    ) -> None:
        super().__init__()
        if inputs is None and normalisation is None:
            raise InvalidValue(f"{architecture}: say which inputs it takes, or how pixels are normalised")
        self.architecture = architecture
        self.names = tuple(stages)
        self.stages = nn.ModuleList(stages.values())
        self._inputs = inputs
        self.sides = tuple(map(tuple, sides)) if sides is not None else ((),) * len(self.names)
        self.features_dim = features_dim
        self.input_size = input_size
        self.normalisation = normalisation
        self.head = head
        self.head_after = len(self.names) if head_after is None else head_after
        self._frozen = 0
        self._shapes: tuple[tuple[int, ...], ...] | None = None
        known = {spec.name for spec in self.inputs[1:]}
        if len(self.sides) != len(self.names) or not all(known.issuperset(names) for names in self.sides):
            raise InvalidValue(f"{architecture}: sides are out of {sorted(known)}, a list for each stage")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The recipe's fields: one of pixels, of the size that the weights were made for, or a text's."""
        if self._inputs is not None:
            return self._inputs
        assert self.normalisation is not None, "the constructor looked"
        return (TensorSpec("pixels", "uint8", ("batch", *self.input_size, self.normalisation.channels)),)

    @property
    def entry(self) -> str:
        """The field that the first stage takes: ``pixels`` or ``input_ids``."""
        return self.inputs[0].name

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the stages that ``split`` freed; those that it froze stay in eval mode."""
        super().train(mode)
        for stage in self.stages[: self._frozen]:
            stage.train(False)
        return self

    def forward(self, fields: Fields | Tensor) -> Tensor:
        """Return features, float32 [N, D], of the recipe's fields, or of pixels where there is no other."""
        if isinstance(fields, Tensor):
            return self.run(fields)
        return self.run(fields[self.entry], sides=fields)

    def run(self, value: Tensor, start: int = 0, stop: int | None = None, *, sides: Fields = NONE) -> Tensor:
        """Run stages ``start`` up to, without, ``stop`` (default: to the end).

        Args:
            value: the first field where ``start`` is 0, else the tensor that stage ``start - 1`` left.
            start: first stage to run, from 0.
            stop: first stage not to run.
            sides: the recipe's fields, for stages that take more than the carried tensor.
        """
        for stage, names in zip(self.stages[start:stop], self.sides[start:stop], strict=True):
            value = stage(value, *(sides[name] for name in names))
        return value

    def logits(self, fields: Fields | Tensor) -> Tensor:
        """Return the network's own logits, float32 [N, classes]; fields as of ``forward``.

        Raises:
            InvalidValue: the source came without a head.
        """
        if self.head is None:
            raise InvalidValue(f"{self.architecture} has no output layer of its own; give it a head first")
        value, sides = (fields, NONE) if isinstance(fields, Tensor) else (fields[self.entry], fields)
        logits: Tensor = self.head(self.run(value, stop=self.head_after, sides=sides))
        return logits

    def example(self, length: int = EXAMPLE_LENGTH) -> dict[str, Tensor]:
        """Return two rows of every field, of sequences of one length, without padding."""
        example = {}
        for number, spec in enumerate(self.inputs):
            shape = [EXAMPLE_ROWS, *(size if isinstance(size, int) else length for size in spec.shape[1:])]
            # A mask of ones counts every token; a first field of ones is a word that every vocabulary has.
            fill = (
                torch.ones
                if spec.name == "attention_mask" or (number == 0 and spec.dtype == "int64")
                else torch.zeros
            )
            example[spec.name] = fill(shape, dtype=getattr(torch, spec.dtype))
        return example

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Put every module into eval mode for a block, and back into its own mode after it."""
        modes = [(module, module.training) for module in self.modules()]
        nn.Module.train(self, False)
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training

    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Return the shape of what each stage leaves for an example, without its first dimension."""
        if self._shapes is None:
            fields = self.example()
            device = next((each.device for each in self.parameters()), torch.device("cpu"))
            fields = {name: value.to(device) for name, value in fields.items()}
            value, found = fields[self.entry], []
            with self.evaluating(), torch.no_grad():
                for k in range(len(self)):
                    value = self.run(value, k, k + 1, sides=fields)
                    found.append(tuple(value.shape[1:]))
            self._shapes = tuple(found)
        return self._shapes

    def depths(self) -> tuple[int, ...]:
        """Return the boundaries at which a retrained tail may start, the topmost first.

        ``depths()[d - 1]`` is the ``k`` to split at for the last ``d`` stages that hold layers;
        stages with no more than pooling and norms are not counted, and go with the one below.
        """
        kernels = [any(parameter.ndim > 1 for parameter in stage.parameters()) for stage in self.stages]
        return tuple(k for k, layered in reversed(list(enumerate(kernels))) if layered)

    def split(self, k: int) -> Split:
        """Freeze the first ``k`` stages and free the rest.

        Sets ``requires_grad`` and the training mode of the shared modules.

        Args:
            k: number of frozen stages, 0 (everything is trained) to ``len(self)``.

        Raises:
            InvalidValue: there are fewer stages.
        """
        if not 0 <= k <= len(self):
            raise InvalidValue(f"{self.architecture} has {len(self)} stages to freeze, got {k}")
        self._frozen = k
        named = list(zip(self.names, self.stages, strict=True))
        lower = FrozenStage(OrderedDict(named[:k]), self.sides[:k], self.entry)
        upper = StageRun(OrderedDict(named[k:]), self.sides[k:], self.entry)
        upper.requires_grad_(True)
        upper.train(True)
        return Split(lower, upper)
