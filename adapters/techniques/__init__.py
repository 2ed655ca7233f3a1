"""Ways to carry a source over to a task, one to a file, each by its name."""

import difflib
from collections.abc import Mapping

from adapters.techniques.as_is import AsIs
from adapters.techniques.contrastive import Contrastive
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
from adapters.techniques.workshop import Workshop
from registry.errors import InvalidSetting

__all__ = ["TECHNIQUES", "Fitted", "Technique", "Workshop", "technique"]

TECHNIQUES: Mapping[str, type[Technique]] = {
    each.name: each
    for each in (AsIs, Features, Frozen, Layers, Partial, Full, LpFt, Lora, Contrastive, Scratch)
}


def technique(name: str, values: Mapping[str, object] | None = None) -> Technique:
    """Return a technique by its name, with its settings.

    Raises:
        InvalidSetting: there is no such technique, or it refuses a setting.
    """
    if name not in TECHNIQUES:
        near = difflib.get_close_matches(name, TECHNIQUES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InvalidSetting(f"a technique is one of {', '.join(TECHNIQUES)}, got {name!r}{hint}")
    return TECHNIQUES[name].of(values or {})
