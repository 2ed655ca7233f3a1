"""The techniques for adapting a source to a task, one per file, by name."""

from collections.abc import Mapping

from adapters.techniques.as_is import AsIs
from adapters.techniques.context import Context
from adapters.techniques.contrastive import Contrastive
from adapters.techniques.effort import TrainingEffort
from adapters.techniques.features import Features
from adapters.techniques.fitted import Fitted
from adapters.techniques.frozen import Frozen
from adapters.techniques.full import Full
from adapters.techniques.layers import Layers
from adapters.techniques.lora import Lora
from adapters.techniques.lp_ft import LpFt
from adapters.techniques.partial import Partial
from adapters.techniques.scratch import Scratch
from adapters.techniques.technique import Technique
from registry.errors import InvalidSetting
from registry.quoting import quoted
from registry.suggestion import suggestion

__all__ = [
    "TECHNIQUES",
    "AsIs",
    "Context",
    "Features",
    "Fitted",
    "Frozen",
    "Layers",
    "Technique",
    "TrainingEffort",
    "technique",
]

TECHNIQUES: Mapping[str, type[Technique]] = {
    each.name: each
    for each in (AsIs, Features, Frozen, Layers, Partial, Full, LpFt, Lora, Contrastive, Scratch)
}

ALIASES: Mapping[str, str] = {
    **dict.fromkeys(("finetune", "finetuning", "full-finetune", "full-finetuning", "end-to-end"), Full.name),
    **dict.fromkeys(("linear", "linear-probe", "linear-probing", "linear-eval", "probe"), Frozen.name),
    **dict.fromkeys(("head", "head-only", "last-layer", "logistic-regression", "transfer"), Frozen.name),
    **dict.fromkeys(("feature-extraction", "feature-extractor", "embed", "embedding"), Features.name),
    **dict.fromkeys(("partial-finetune", "last-block", "last-blocks", "top-layers"), Partial.name),
    **dict.fromkeys(("zero-shot", "none", "pretrained", "identity"), AsIs.name),
    **dict.fromkeys(("head2toe", "layer-selection"), Layers.name),
    **dict.fromkeys(("setfit", "siamese"), Contrastive.name),
    **dict.fromkeys(("peft", "adapter", "low-rank"), Lora.name),
    **dict.fromkeys(("from-scratch", "random", "random-init"), Scratch.name),
}
"""Names used elsewhere, for suggestions only; they are not accepted."""


def technique(name: str, values: Mapping[str, object] | None = None) -> Technique:
    """Return a technique by its name, with its settings.

    Raises:
        InvalidSetting: there is no such technique, or it refuses a setting.
    """
    if name not in TECHNIQUES:
        raise InvalidSetting(
            f"a technique is one of {', '.join(TECHNIQUES)}, got {quoted(name)}{suggestion(name, TECHNIQUES, ALIASES)}"
        )
    return TECHNIQUES[name].of(values or {})
