"""A checkpoint's folder: configuration, tokenizer and weights as ``save_pretrained`` writes them."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub

from registry.errors import SourceUnavailable, UnknownSource
from registry.quoting import quoted

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")

_ID = re.compile(r"[\w-][\w.-]*(?:/[\w-][\w.-]*)?")
_SHARD = re.compile(r"[\w-][\w.-]*\.safetensors")
_LICENCE = re.compile(r"^license:\s*([\w.+-]+)\s*$", re.MULTILINE)
_MAX_BYTES = 16 << 20
_MAX_CARD = 8192


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """Where a checkpoint lies.

    Attributes:
        name: what it is called in a spec: an identifier of the hub, or a path.
        path: the folder itself.
    """

    name: str
    path: Path

    @classmethod
    def find(cls, name: str) -> "ModelFolder":
        """Return the folder of that path or, where there is none, of that name in the hub's cache.

        Raises:
            SourceUnavailable: it is in neither place; nothing is downloaded.
            UnknownSource: it is neither a path nor an identifier.
        """
        path = Path(name).expanduser()
        if path.joinpath(CONFIG).is_file():
            return cls(name, path)
        if not _ID.fullmatch(name) or path.is_dir():
            raise UnknownSource(f"expected a folder with a {CONFIG} or a name of the hub, got {name!r:.200}")
        cached = huggingface_hub.try_to_load_from_cache(name, CONFIG)
        if not isinstance(cached, str):
            raise SourceUnavailable(
                f"expected {name} as a folder or in {huggingface_hub.constants.HF_HUB_CACHE}, it is not there and "
                f"nothing is downloaded; run 'hf download {name}' where there is a network, and copy that folder"
            )
        return cls(name, Path(cached).parent)

    @classmethod
    def cached(cls) -> "Iterator[ModelFolder]":
        """Yield the checkpoints in the hub's cache, by name."""
        for folder in sorted(Path(huggingface_hub.constants.HF_HUB_CACHE).glob("models--*")):
            name = "/".join(folder.name.split("--")[1:])
            if _ID.fullmatch(name) and isinstance(huggingface_hub.try_to_load_from_cache(name, CONFIG), str):
                yield cls.find(name)

    def has_weights(self) -> bool:
        """Say whether weights are there, in the one format that is read: safetensors."""
        return any(self.path.joinpath(name).is_file() for name in WEIGHTS)

    def check_weights(self) -> None:
        """Refuse a folder without weights that can be read.

        Raises:
            SourceUnavailable: there are none in the safetensors format, or some are missing.
            UnknownSource: an index of several files names others than those of the folder.
        """
        if not self.has_weights():
            raise SourceUnavailable(
                f"expected {WEIGHTS[0]} in {self.path}, it is not there and nothing is downloaded; "
                "other formats may run code when they are read: convert them to safetensors"
            )
        if not self.path.joinpath(WEIGHTS[0]).is_file():
            self._check_shards()

    def _check_shards(self) -> None:
        """Check that the index names files of this folder: a library would read whatever path stands there.

        Raises:
            UnknownSource: the index has another form, or names something else.
            SourceUnavailable: a file that it names is missing.
        """
        index = self.path / WEIGHTS[1]
        shards = self.json(WEIGHTS[1]).get("weight_map")
        if not isinstance(shards, Mapping) or not shards:
            raise UnknownSource(f"expected a weight_map in {index}, got none")
        for name in sorted({str(each) for each in shards.values()}):
            if not _SHARD.fullmatch(name):
                raise UnknownSource(
                    f"expected {index} to name safetensors files of its own folder, got {quoted(name, 80)}"
                )
            if not self.path.joinpath(name).is_file():
                raise SourceUnavailable(
                    f"expected {name} in {self.path}, which {WEIGHTS[1]} names; it is missing"
                )

    def json(self, name: str) -> Mapping[str, Any]:
        """Return what a JSON file of this folder holds; nothing where it is not there.

        Raises:
            UnknownSource: it is no JSON object, or over 16 MiB.
        """
        text = self.text(name)
        if text is None:
            return {}
        try:
            value = json.loads(text)
        except ValueError as error:
            raise UnknownSource(f"expected JSON in {self.path / name}: {error}") from error
        if isinstance(value, list):
            value = {str(number): item for number, item in enumerate(value)}
        if not isinstance(value, dict):
            raise UnknownSource(f"expected a JSON object in {self.path / name}, got {type(value).__name__}")
        return value

    def text(self, name: str) -> str | None:
        """Return the text of a file, None where it is not there.

        Raises:
            UnknownSource: it is not UTF-8, or over 16 MiB.
        """
        path = self.path / name
        if not path.is_file():
            return None
        if path.stat().st_size > _MAX_BYTES:
            raise UnknownSource(f"expected {path} to have at most {_MAX_BYTES:,} bytes, it has more")
        try:
            return path.read_text(encoding="utf-8")
        except ValueError as error:
            raise UnknownSource(f"expected UTF-8 in {path}: {error}") from error

    @property
    def licence(self) -> str | None:
        """The licence that the card's header names."""
        card = self.path / "README.md"
        if not card.is_file():
            return None
        with card.open(encoding="utf-8", errors="replace") as stream:
            found = _LICENCE.search(stream.read(_MAX_CARD))
        return found[1] if found else None
