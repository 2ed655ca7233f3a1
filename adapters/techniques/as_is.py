"""``as-is``: the unchanged source, with its labels mapped to the target's."""

import json
import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from adapters import textfile
from adapters.configuration import MAX_FILE_BYTES
from adapters.datasets.dataset import Dataset
from adapters.datasets.labels import clean, ordered
from adapters.sources.source import Source
from adapters.sources.stages import Stages
from adapters.techniques.context import Context
from adapters.techniques.fitted import Fitted
from adapters.techniques.technique import Technique
from registry.errors import DatasetError, InvalidSetting
from registry.quoting import quoted
from registry.suggestion import nearest

MAX_LABELS_BYTES = 4 << 20

Answers = Sequence[str | int]
"""One or several labels of the source, by name or by index from 0."""


@dataclass(frozen=True, kw_only=True)
class AsIs(Technique):
    """Trains nothing: the source's outputs are chosen, joined and renamed.

    The source's labels that no target label stands for are left out; where several stand for
    one, their probabilities are added up.

    Attributes:
        label_map: for each target label one of the source's labels or a list of them, by name or by
            number from 0; or the path of a JSON or TOML file that holds such a map. None matches
            labels of the same name, up to case, ``_`` and ``-``.
        labels: the source's labels in the order of its outputs, where the source brings none (a file of weights does
            not); or the path of a file that holds one a line. A label map of numbers does without.
    """

    label_map: Mapping[str, object] | None = None
    labels: tuple[str, ...] = ()

    name: ClassVar[str] = "as-is"

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Self:
        """Build the technique; a ``label_map`` or ``labels`` that is a text is the path of a file.

        Raises:
            InvalidSetting: a key is unknown, or a file holds something else.
        """
        read = {"label_map": read_label_map, "labels": read_labels}
        paths = {key: Path(values[key]) for key in read if isinstance(values.get(key), str)}  # type: ignore[arg-type]
        return super().of({**values, **{key: read[key](path) for key, path in paths.items()}})

    def check_source(self, source: Source, stages: Stages) -> None:
        """Refuse a source without outputs, labels that are not one for each of them, and a map that does not fit.

        Raises:
            DatasetError: the source has no output layer, or nothing says what its outputs are.
            InvalidSetting: there are more or fewer labels than outputs, or the source brings its own.
        """
        outputs = source.outputs()
        if stages.head is None or outputs is None:
            raise DatasetError(
                f"{source.spec} has no output layer and no labels of its own; take another technique than {self.name}"
            )
        if self.labels and source.labels:
            raise InvalidSetting(
                f"{source.spec} brings its own {len(source.labels)} labels; leave out --labels"
            )
        if self.labels and len(self.labels) != outputs:
            raise InvalidSetting(
                f"--labels names {len(self.labels)} labels, {source.spec} has {outputs} outputs; name each output, "
                "in order"
            )
        if not (self.labels or source.labels or self.label_map):
            raise DatasetError(
                f"{source.spec} has {outputs} outputs and does not say what they stand for; name them with "
                "--labels FILE, one a line, or by number in a label map"
            )
        if self.label_map is not None:
            self._mapped(source, self.label_map)

    def fit(self, source: Source, dataset: Dataset, context: Context) -> Fitted:
        """Choose the source's outputs.

        Raises:
            InvalidSetting: the map names a label that the source does not have, or one twice.
            DatasetError: the source has no labels, or one of the dataset's is not covered.
        """
        stages = source.load()
        self.check_source(source, stages)
        known = self._known(source)
        chosen = self._chosen(source, dataset)
        if missing := [label for label in dataset.labels if label not in chosen]:
            near = {name: _nearest(name, known) for name in missing[:3]}
            raise DatasetError(
                f"{source.spec} knows no label for {', '.join(f'{name!r}{near[name]}' for name in near)}"
                f"{f' and {len(missing) - 3} more' if len(missing) > 3 else ''}; give a label map, or take "
                "a technique that learns a head"
            )
        labels = ordered(chosen)
        stages.split(len(stages))
        return Fitted(
            technique=self.name,
            depth=None,
            stages=stages,
            frozen=len(stages),
            head=_head(stages, [chosen[label] for label in labels]),
            head_after=stages.head_after,
            labels=labels,
            config={"label_map": {label: list(chosen[label]) for label in labels}},
        )

    def _chosen(self, source: Source, dataset: Dataset) -> dict[str, tuple[int, ...]]:
        """Return the numbers of the source's labels that stand for each target label."""
        if self.label_map is None:
            numbers = _numbers(self._known(source), loosely=True)
            found = {label: numbers.get(_loose(label), []) for label in dataset.labels}
            for label, several in found.items():
                if len(several) > 1:
                    raise DatasetError(
                        f"{source.spec} has {len(several)} labels {label!r}, numbers {several}; "
                        "say which in a label map"
                    )
            return {label: tuple(number) for label, number in found.items() if number}
        return self._mapped(source, self.label_map)

    def _known(self, source: Source) -> tuple[str, ...]:
        """Return the names of the source's outputs: its labels, those that were given, or numbers."""
        return source.labels or self.labels or tuple(map(str, range(source.outputs() or 0)))

    def _mapped(self, source: Source, label_map: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
        """Return the numbers of the source's labels that a map names for each target label."""
        known = self._known(source)
        numbers = _numbers(known, loosely=False)
        chosen = {
            clean(label): tuple(
                _number(answer, numbers, known, source) for answer in _source_labels(label, value)
            )
            for label, value in label_map.items()
        }
        taken: dict[int, str] = {}
        for label, theirs in chosen.items():
            for number in theirs:
                if taken.setdefault(number, label) != label or theirs.count(number) > 1:
                    raise InvalidSetting(
                        f"label map: {known[number]!r} stands for {taken[number]!r} and again for {label!r}; "
                        "it can be used once"
                    )
        return chosen


class JoinLabels(nn.Module):
    """Adds up the probabilities of the labels that stand for one: logits [N, S] to logits [N, T]."""

    places: Tensor
    absent: Tensor

    def __init__(self, groups: Sequence[Sequence[int]]) -> None:
        super().__init__()
        width = max(len(group) for group in groups)
        places = [list(group) + [0] * (width - len(group)) for group in groups]
        absent = [[0.0] * len(group) + [-1e30] * (width - len(group)) for group in groups]
        self.register_buffer("places", torch.tensor(places))
        self.register_buffer("absent", torch.tensor(absent))

    def forward(self, logits: Tensor) -> Tensor:
        """Return, for each group, the logarithm of the sum of its exponentials."""
        if self.places.shape[1] == 1:
            return logits[:, self.places[:, 0]]
        return torch.logsumexp(logits[:, self.places] + self.absent, dim=2)


def read_label_map(path: Path) -> dict[str, object]:
    """Read a map from a JSON or TOML file: target label to source label, or a list of them.

    Raises:
        InvalidSetting: there is no such file, it is over 1 MiB, or it holds something else.
    """
    text = textfile.read(path, MAX_FILE_BYTES, "a label map")
    try:
        value = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidSetting(f"{path}: expected a label map in JSON or TOML; {error}") from error
    if not isinstance(value, dict):
        raise InvalidSetting(f"{path}: a label map is an object, target label to source label")
    return value


def read_labels(path: Path) -> tuple[str, ...]:
    """Read the labels of a network's outputs, in order: UTF-8, one a line.

    Labels may repeat, as imagenet's do.

    Raises:
        InvalidSetting: there is no such file, it is over 4 MiB, not UTF-8, or a line holds no label.
    """
    lines = textfile.read(path, MAX_LABELS_BYTES, "a file of labels").splitlines()
    labels = []
    for number, line in enumerate(lines, start=1):
        try:
            labels.append(clean(line))
        except ValueError as error:
            raise InvalidSetting(f"{path}: line {number} has {error}; expected one label a line") from error
    if not labels:
        raise InvalidSetting(f"{path} is empty; expected the label of each output, one a line")
    return tuple(labels)


def _head(stages: Stages, groups: Sequence[tuple[int, ...]]) -> nn.Module:
    """Return the source's head with its outputs chosen and joined: a linear layer where that is possible."""
    head = stages.head
    single = all(len(group) == 1 for group in groups)
    if isinstance(head, nn.Linear) and single and stages.head_after == len(stages):
        rows = [group[0] for group in groups]
        with torch.device("meta"):
            chosen = nn.Linear(head.in_features, len(rows))
        chosen = chosen.to_empty(device="cpu")
        with torch.no_grad():
            chosen.weight.copy_(head.weight[rows])
            chosen.bias.copy_(torch.zeros(len(rows)) if head.bias is None else head.bias[rows])
        return chosen.eval()
    assert head is not None, "fit looked"
    return nn.Sequential(head, JoinLabels(groups)).eval()


def _source_labels(label: str, value: object) -> Answers:
    given = value if isinstance(value, list | tuple) else [value]
    answers = [each for each in given if isinstance(each, str | int) and not isinstance(each, bool)]
    if not answers or len(answers) < len(given):
        raise InvalidSetting(
            f"label map: {label!r} stands for a source label, by name or number, or a list of them; got {quoted(value)}"
        )
    return answers


def _number(answer: str | int, numbers: Mapping[str, list[int]], known: Sequence[str], source: Source) -> int:
    if isinstance(answer, int):
        if not 0 <= answer < len(known):
            raise InvalidSetting(f"label map: {source.spec} has labels 0 to {len(known) - 1}, got {answer}")
        return answer
    found = numbers.get(answer, [])
    if not found:
        raise InvalidSetting(f"label map: {source.spec} has no label {answer!r}{_nearest(answer, known)}")
    if len(found) > 1:
        raise InvalidSetting(
            f"label map: {source.spec} has several labels {answer!r}; give a number out of {found}"
        )
    return found[0]


def _numbers(labels: Sequence[str], *, loosely: bool) -> dict[str, list[int]]:
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for number, label in enumerate(labels):
        numbers[_loose(label) if loosely else label].append(number)
    return numbers


def _loose(label: str) -> str:
    return " ".join(label.casefold().replace("_", " ").replace("-", " ").split())


def _nearest(name: str, labels: Sequence[str]) -> str:
    near = nearest(name, labels)
    return "" if near is None else f" (the nearest is {near!r})"
