"""The encoders of texts that can be cut: a table by ``config.model_type``.

An encoder is embeddings and a column of equal layers, each of which takes the tokens' vectors and
a mask. transformers' own modules are used as they are; what is written here is what its models do
between them: masks, and positions that layers share. Stages end at groups of layers, at most
four of them, named by the path of the last layer in each.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from adapters.sources.pooling import FirstPool, MeanPool

GROUPS = 4
"""Most groups of layers: 6 layers are cut into pairs, 12 into threes, 24 into sixes."""

MASKED = -1e4
"""What is added to the score of a token that does not count: its weight is zero, in half precision too."""

Head = tuple[nn.Module, tuple[str, ...], nn.Linear]
"""A classifier's last stage with its sides, and its output layer."""


@dataclass(frozen=True, slots=True)
class ModelFamily:
    """How the encoders of one ``model_type`` are taken apart.

    Attributes:
        embeddings: makes the first stage out of an encoder.
        layers: module path of the layers.
        group: makes a stage out of an encoder and some of its layers.
        head: takes a classifier's head apart; None where it is not linear on features.
        shape: names of the configuration's values that say what the network computes, beside the
            shapes of its weights: they are part of the architecture's name.
        reserved: returns, from a configuration, how many position embeddings no token takes.
    """

    embeddings: Callable[[Any], nn.Module]
    layers: str
    group: Callable[[nn.Module, Sequence[nn.Module]], nn.Module]
    head: Callable[[Any], Head | None]
    shape: tuple[str, ...]
    reserved: Callable[[Any], int] = lambda _: 0

    def cuts(self, layers: int) -> tuple[str, ...]:
        """Return the names of the stages below pooling of an encoder with so many layers."""
        return ("embeddings", *(f"{self.layers}.{stop - 1}" for _, stop in groups(layers)))


def groups(layers: int) -> tuple[tuple[int, int], ...]:
    """Divide layers into at most four groups, equal ones but for the last: (first, behind the last)."""
    size = ceil(layers / GROUPS)
    return tuple((start, min(start + size, layers)) for start in range(0, layers, size))


def typed(config: Any) -> bool:
    """Say whether an encoder can tell the two texts of a pair apart."""
    return FAMILIES[config.model_type].embeddings is _Typed and config.type_vocab_size > 1


class _Typed(nn.Module):
    """Embeddings that take ``token_type_ids``; zeros where the recipe has none."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.embeddings = encoder.embeddings
        self.project = getattr(encoder, "embeddings_project", None)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        h: Tensor = self.embeddings(input_ids=input_ids, token_type_ids=types)
        return h if self.project is None else self.project(h)


class _Group(nn.Module):
    """Layers that take tokens and a mask."""

    def __init__(self, _: nn.Module, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, h: Tensor, attention_mask: Tensor) -> Tensor:
        scores = added(attention_mask, h.dtype)
        for layer in self.layers:
            h = layer(h, scores)
        return h


class _Biased(nn.Module):
    """MPNet's layers, which share a bias by distance; every group has a copy of its weights."""

    def __init__(self, encoder: Any, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.relative_attention_bias = copy.deepcopy(encoder.encoder.relative_attention_bias)
        self._bucket = encoder.encoder.relative_position_bucket

    def forward(self, h: Tensor, attention_mask: Tensor) -> Tensor:
        scores = added(attention_mask, h.dtype)
        places = torch.arange(h.shape[1], device=h.device)
        distances = places[None, :] - places[:, None]
        bias = self.relative_attention_bias(self._bucket(distances)).permute(2, 0, 1).unsqueeze(0)
        for layer in self.layers:
            h = layer(h, scores, bias)[0]
        return h


class _Rotary(nn.Module):
    """ModernBERT's layers, which turn their vectors by position; some look no further than a window."""

    def __init__(self, encoder: Any, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.rotary = copy.deepcopy(encoder.rotary_emb)
        self.norm = encoder.final_norm if layers[-1] is encoder.layers[-1] else nn.Identity()
        self._window: int = encoder.config.sliding_window

    def forward(self, h: Tensor, attention_mask: Tensor) -> Tensor:
        places = torch.arange(h.shape[1], device=h.device)
        far = (places[None, :] - places[:, None]).abs() > self._window
        scores = added(attention_mask, h.dtype)
        near = scores + far.to(h.dtype) * MASKED
        for layer in self.layers:
            kind: Any = layer.attention_type
            turns = self.rotary(h, places.unsqueeze(0), kind)
            mask = near if kind == "sliding_attention" else scores.expand_as(near)
            h = layer(h, attention_mask=mask, position_embeddings=turns)
        normed: Tensor = self.norm(h)
        return normed


class _First(nn.Module):
    """A dense layer on the first token's vector."""

    def __init__(self, dense: nn.Module, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.dense = dense
        self._activation = activation

    def forward(self, h: Tensor) -> Tensor:
        return self._activation(self.dense(h[:, 0]))


class _Pooled(nn.Module):
    """ModernBERT's layers above the pooling."""

    def __init__(self, pool: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.pool, self.head = pool, head

    def forward(self, h: Tensor, *mask: Tensor) -> Tensor:
        left: Tensor = self.head(self.pool(h, *mask))
        return left


def added(attention_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what is added to attention's scores, [N, 1, 1, S], of a mask int64 [N, S]."""
    return ((1 - attention_mask) * MASKED).to(dtype)[:, None, None, :]


def _dense(activation: Callable[[Tensor], Tensor]) -> Callable[[Any], Head]:
    return lambda model: (_First(model.classifier.dense, activation), (), model.classifier.out_proj)


def _modern(model: Any) -> Head:
    mean = model.config.classifier_pooling == "mean"
    pool, sides = (MeanPool(), ("attention_mask",)) if mean else (FirstPool(), ())
    return _Pooled(pool, model.head), sides, model.classifier


_BERT = ModelFamily(
    embeddings=_Typed,
    layers="encoder.layer",
    group=_Group,
    head=lambda model: (model.bert.pooler, (), model.classifier),
    shape=("num_attention_heads", "hidden_act", "layer_norm_eps"),
)
_ROBERTA = ModelFamily(
    embeddings=_Typed,
    layers="encoder.layer",
    group=_Group,
    head=_dense(torch.tanh),
    shape=(*_BERT.shape, "pad_token_id"),
    # Positions are counted from behind that of padding.
    reserved=lambda config: int(config.pad_token_id) + 1,
)

FAMILIES: Mapping[str, ModelFamily] = {
    "bert": _BERT,
    "camembert": _ROBERTA,
    "distilbert": ModelFamily(
        embeddings=lambda encoder: encoder.embeddings,
        layers="transformer.layer",
        group=_Group,
        head=lambda model: (_First(model.pre_classifier, functional.relu), (), model.classifier),
        shape=("n_heads", "activation"),
    ),
    "electra": ModelFamily(
        embeddings=_Typed,
        layers="encoder.layer",
        group=_Group,
        head=_dense(functional.gelu),
        shape=_BERT.shape,
    ),
    "modernbert": ModelFamily(
        embeddings=lambda encoder: encoder.embeddings,
        layers="layers",
        group=_Rotary,
        head=_modern,
        shape=(
            "num_attention_heads",
            "hidden_activation",
            "norm_eps",
            "layer_types",
            "sliding_window",
            "rope_parameters",
            "classifier_pooling",
            "classifier_activation",
        ),
    ),
    "mpnet": ModelFamily(
        embeddings=lambda encoder: encoder.embeddings,
        layers="encoder.layer",
        group=_Biased,
        head=_dense(torch.tanh),
        shape=(*_ROBERTA.shape, "relative_attention_num_buckets"),
        # MPNet's padding is 1 whatever its configuration says.
        reserved=lambda _: 2,
    ),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}
