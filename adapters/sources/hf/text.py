"""Encoders of texts: transformers' checkpoints, pooled as sentence-transformers says or as asked for."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from transformers import AutoModel, AutoModelForSequenceClassification

from adapters.sources.hf.checkpoint import architecture_of, labels_of, load_checkpoint
from adapters.sources.hf.families import FAMILIES, groups, typed
from adapters.sources.hf.folder import ModelFolder
from adapters.sources.hf.sentence import Sentence
from adapters.sources.hf.text_reference import SentenceReference, TransformersReference
from adapters.sources.hf.tokenization import TYPES, text_recipe
from adapters.sources.pooling import PENULTIMATE, Pooling
from adapters.sources.reference import Reference
from adapters.sources.source import Source
from adapters.sources.stages import Stages
from registry.errors import UnknownSource

SIMILARITY = "sentence-similarity"
"""The task of what sentence-transformers publishes."""

_CLASSIFIER = "ForSequenceClassification"
POOLER = "pooler."
_MOST_LAYERS, _MOST_WIDE = 128, 16384


@dataclass(frozen=True, kw_only=True)
class TextSource(Source):
    """An encoder of texts.

    Attributes:
        folder: where its files lie.
        config: transformers' configuration of it.
        pooled: how tokens become features.
        sentence: what sentence-transformers says of it, where its way is followed.
    """

    folder: ModelFolder
    config: Any = field(repr=False)
    pooled: Pooling
    sentence: Sentence | None = None

    def weights_at_hand(self) -> bool:
        """Say whether the folder holds weights in the safetensors format."""
        return self.folder.has_weights()

    def reference(self) -> Reference | None:
        """Return the checkpoint as transformers or sentence-transformers runs it; None where it came along."""
        if not self.spec.startswith("hf:"):
            return None
        if self.sentence is not None:
            own = self.spec == f"hf:{self.folder.name}"
            return SentenceReference(self.folder.path, None if own else self.pooled.kind, l2=self.pooled.l2)
        kind = None if self.pooled.kind == PENULTIMATE else self.pooled.kind
        return TransformersReference(self.folder.path, kind, l2=self.pooled.l2)

    def load(self, seed: int | None = None) -> Stages:
        """Return the network in stages; see :meth:`Source.load`."""
        family = FAMILIES[self.config.model_type]
        classifies = self.pooled.kind == PENULTIMATE
        model = load_checkpoint(
            AutoModelForSequenceClassification if classifies else AutoModel,
            self.folder,
            self.config,
            seed,
            spare=() if classifies else (POOLER,),
        )
        encoder: Any = model.base_model
        layers = list(encoder.get_submodule(family.layers))
        names = family.cuts(len(layers))
        types = (TYPES,) if any(spec.name == TYPES for spec in self.recipe.fields) else ()
        parts: list[tuple[str, nn.Module, tuple[str, ...]]] = [(names[0], family.embeddings(encoder), types)]
        for name, (start, stop) in zip(names[1:], groups(len(layers)), strict=True):
            parts.append((name, family.group(encoder, layers[start:stop]), ("attention_mask",)))
        output = None
        if classifies and (head := family.head(model)) is not None:
            pool, sides, layer = head
            output = layer if self.labels else None
            parts.append((self.pooled.names[0], pool, sides))
        else:
            parts.extend(self.pooled.stages())
        return Stages(
            self.architecture,
            OrderedDict((name, stage) for name, stage, _ in parts),
            features_dim=self.dimension,
            inputs=self.recipe.fields,
            sides=[sides for _, _, sides in parts],
            head=output,
        ).eval()


def text_source(
    folder: ModelFolder,
    config: Any,
    pooled: Pooling | None,
    spec: str,
    *,
    task: str | None = None,
    licence: str | None = None,
) -> TextSource:
    """Return the source in a folder.

    Args:
        folder: the checkpoint.
        config: its configuration, of a known ``model_type``.
        pooled: how to pool; None as the checkpoint says, or else the mean.
        spec: the source's spec, without the pooling.
        task: what it learnt, where it is known.
        licence: the weights' licence, where it is known; None takes what the card says.

    Raises:
        UnknownSource: its numbers are out of bounds, or it pools in a way that is not offered.
    """
    family = FAMILIES[config.model_type]
    if not 1 <= config.num_hidden_layers <= _MOST_LAYERS or not 1 <= config.hidden_size <= _MOST_WIDE:
        raise UnknownSource(
            f"expected 1 to {_MOST_LAYERS} layers up to {_MOST_WIDE} wide in {folder.name}, "
            f"got {config.num_hidden_layers} of {config.hidden_size}"
        )
    classifier = (config.architectures or [""])[0].endswith(_CLASSIFIER)
    sentence = None if classifier and pooled is None else Sentence.read(folder)
    published = sentence.pooling if sentence is not None and pooled is None else Pooling()
    chosen = pooled or (Pooling(PENULTIMATE) if classifier else published)
    return TextSource(
        spec=spec if pooled is None else f"{spec}@{chosen}",
        architecture=architecture_of(config, (*family.shape, "num_hidden_layers")),
        task=task or (None if sentence is None else SIMILARITY),
        labels=labels_of(config) if chosen.kind == PENULTIMATE else (),
        recipe=text_recipe(folder, config, sentence, reserved=family.reserved(config), types=typed(config)),
        cuts=(*family.cuts(config.num_hidden_layers), *chosen.names),
        dimension=config.hidden_size,
        licence=licence or folder.licence,
        pooling=chosen.kind,
        norm=chosen.norm,
        folder=folder,
        config=config,
        pooled=chosen,
        sentence=sentence,
    )
