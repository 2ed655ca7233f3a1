"""What sentence-transformers writes beside a checkpoint: how texts are prepared and pooled."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from adapters.sources.hf.folder import ModelFolder
from adapters.sources.pooling import KINDS, Pooling
from registry.errors import UnknownSource
from registry.quoting import quoted, shortened

MODULES = "modules.json"
CONFIG = "config_sentence_transformers.json"
TRANSFORMER = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_xlm-roberta_config.json",
)
"""Names under which the transformer's own settings were saved; the first that says anything counts."""

_OWN = re.compile(r"sentence_transformers\.(?:[a-z_]+\.)*(\w+)")
_MODES = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}
_NAMED_BY_ITSELF = ("query", "document")
"""Prompts that sentence-transformers has without being told; they are empty."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A checkpoint's files of sentence-transformers.

    Attributes:
        folder: where they lie.
        kinds: the modules' classes, from the text on, without their package.
        pooling_config: settings of the second module.
        max_length: tokens of a text; None where the files do not say.
        lowered: whether texts are lowered before they are tokenized.
        prompt: what is put before every text by default.
    """

    folder: ModelFolder
    kinds: tuple[str, ...]
    pooling_config: Mapping[str, Any] = field(repr=False)
    max_length: int | None
    lowered: bool
    prompt: str

    @classmethod
    def read(cls, folder: ModelFolder) -> Self | None:
        """Return what the files say, None where there are none.

        Raises:
            UnknownSource: a module is not of sentence-transformers itself, the first is not a transformer, or
                the default prompt is none of the prompts.
        """
        modules = list(folder.json(MODULES).values())
        if not modules:
            return None
        types = [str(module.get("type")) for module in modules if isinstance(module, dict)]
        own = [_OWN.fullmatch(each) for each in types]
        if len(types) != len(modules) or not all(own):
            raise UnknownSource(
                f"{folder.name} brings modules of its own ({shortened(', '.join(types))}); models that bring code are "
                "refused, choose another model"
            )
        kinds = tuple(found[1] for found in own if found)
        if kinds[0] != "Transformer" or modules[0].get("path", ""):
            raise UnknownSource(
                f"expected {folder.name} to begin with a Transformer in the folder itself, it begins with "
                f"{kinds[0]} in {quoted(modules[0].get('path'))}; choose another model"
            )
        settings = next((found for name in TRANSFORMER if (found := folder.json(name))), {})
        length = settings.get("max_seq_length")
        return cls(
            folder,
            kinds,
            folder.json(f"{modules[1].get('path')}/config.json") if kinds[1:2] == ("Pooling",) else {},
            length if isinstance(length, int) and not isinstance(length, bool) else None,
            settings.get("do_lower_case") is True,
            _default_prompt(folder),
        )

    @property
    def pooling(self) -> Pooling:
        """How the files say to pool.

        Raises:
            UnknownSource: in a way that is not offered.
        """
        name = self.folder.name
        if self.kinds not in (("Transformer", "Pooling"), ("Transformer", "Pooling", "Normalize")):
            raise UnknownSource(
                f"{name} goes through {', '.join(self.kinds)}; expected a transformer, a pooling and perhaps a "
                f"normalisation: name a pooling yourself to leave out the rest, {name}@mean"
            )
        config = self.pooling_config
        modes = [kind for key, kind in _MODES.items() if config.get(key)]
        modes += [kind for kind in KINDS if config.get("pooling_mode") in (kind, [kind])]
        others = [
            key for key, on in config.items() if key.startswith("pooling_mode_") and on and key not in _MODES
        ]
        if len(modes) != 1 or others:
            raise UnknownSource(
                f"{name} pools by {others or modes or config.get('pooling_mode')}; name one of {', '.join(KINDS)}: "
                "…@mean"
            )
        if self.prompt and config.get("include_prompt") is False:
            raise UnknownSource(
                f"{name} leaves its prompt {quoted(self.prompt, 60)} out of its pooling, which no stage does; name a "
                f"pooling yourself to pool the prompt too, {name}@{modes[0]}"
            )
        return Pooling(modes[0], l2="Normalize" in self.kinds)


def _default_prompt(folder: ModelFolder) -> str:
    config = folder.json(CONFIG)
    name, prompts = config.get("default_prompt_name"), config.get("prompts") or {}
    if name is None:
        return ""
    prompt = (
        prompts.get(name, "" if name in _NAMED_BY_ITSELF else None) if isinstance(prompts, dict) else None
    )
    if not isinstance(prompt, str):
        raise UnknownSource(
            f"expected the default prompt {quoted(name, 60)} of {folder.name} among the prompts in {CONFIG}, it is not "
            "there; add it, or take default_prompt_name away"
        )
    return prompt
