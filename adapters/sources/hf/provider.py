"""``hf:PATH`` or ``hf:NAME``: the one way to every family in Hugging Face's format."""

from adapters.sources.hf.checkpoint import read_config
from adapters.sources.hf.families import FAMILIES
from adapters.sources.hf.folder import ModelFolder
from adapters.sources.hf.text import text_source
from adapters.sources.hf.vision import PICTURES, picture_source
from adapters.sources.pooling import Pooling
from adapters.sources.source import Source, SourceProvider
from registry.errors import CultivarError, UnknownSource


class HfProvider(SourceProvider):
    """``hf:PATH-OR-NAME``, with ``@mean``, ``@cls`` or ``@max``, and ``+l2``, for another pooling of texts."""

    scheme = "hf"

    def specs(self) -> list[str]:
        """Return the spec of every checkpoint in the hub's cache that can be a source."""
        return [
            spec
            for spec in (f"{self.scheme}:{folder.name}" for folder in ModelFolder.cached())
            if self._opens(spec)
        ]

    def source(self, spec: str) -> Source:
        """Return the source that a spec names.

        Raises:
            UnknownSource: its ``model_type`` is none that can be cut, or its files are not as expected.
            SourceUnavailable: it is not on this machine.
        """
        _, _, rest = spec.partition(":")
        name, pooled = Pooling.divide(rest)
        folder = ModelFolder.find(name)
        config = read_config(folder)
        if config.model_type in FAMILIES:
            return text_source(folder, config, pooled, f"{self.scheme}:{name}")
        if config.model_type in PICTURES and pooled is None:
            return picture_source(folder, config, spec)
        raise UnknownSource(
            f"expected a model_type out of {', '.join((*FAMILIES, *PICTURES))}, {name:.200} is of "
            f"{config.model_type!r}"
            + (f", and cannot be pooled by {pooled}" if config.model_type in PICTURES else "")
        )

    def _opens(self, spec: str) -> bool:
        try:
            self.source(spec)
        except CultivarError:
            return False
        return True
