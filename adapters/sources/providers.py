"""Every provider by the scheme of its specs, imported when it is first asked for."""

from collections.abc import Iterator
from contextlib import nullcontext, suppress
from importlib import import_module

from adapters.sources.pinned import read_pinned
from adapters.sources.source import Source, SourceProvider
from registry.errors import UnknownSource
from registry.quoting import quoted
from registry.registry import Registry
from registry.suggestion import nearest, suggestion

_PROVIDERS = {
    "bundled": "adapters.sources.bundled:BundledProvider",
    "torchvision": "adapters.sources.torchvision:TorchvisionProvider",
    "timm": "adapters.sources.timm:TimmProvider",
    "hf": "adapters.sources.hf.provider:HfProvider",
    "vectors": "adapters.sources.vectors:VectorsProvider",
}

REGISTRY = "registry"
SCHEMES = (*_PROVIDERS, REGISTRY)

_PINNED = {"torchvision": "torchvision_cuts.json", "timm": "timm_cuts.json"}
"""Files of the names that a spec without a scheme is looked up in."""

ALIASES = {
    **dict.fromkeys(("torch", "pytorch", "tv"), "torchvision"),
    **dict.fromkeys(("huggingface", "transformers", "sentence-transformers", "hub"), "hf"),
    **dict.fromkeys(("word2vec", "w2v", "fasttext", "glove"), "vectors"),
    "builtin": "bundled",
}
"""Names in use elsewhere, by the scheme that they mean here; suggested, never taken."""

_LISTED_BY_NAME = frozenset({"timm"})
"""Providers of over a thousand models, which would bury all others."""


def find(spec: str, registry: Registry | None = None) -> Source:
    """Return the source that a spec names.

    Args:
        spec: ``provider:model``.
        registry: where ``registry:`` versions are; None knows none.

    Raises:
        UnknownSource: no provider has that scheme, or the provider has no such model.
        NotFound: no version answers to the ref.
    """
    scheme, colon, _ = spec.partition(":")
    if not colon or scheme not in SCHEMES:
        schemes = ", ".join(f"{name}:…" for name in SCHEMES)
        raise UnknownSource(
            f"a source is {schemes}; got {quoted(spec)}{_meant(spec)}; 'cultivar sources' lists them all"
        )
    return _provider(scheme, registry).source(spec)


def offered(scheme: str | None = None, registry: Registry | None = None) -> Iterator[Source]:
    """Yield every source on offer, or those of one scheme, each with its default weights.

    timm's, and versions in the registry, are only yielded where they are asked for; versions that cannot
    be carried on are passed over.

    Raises:
        UnknownSource: there is no such scheme.
    """
    if scheme is not None and scheme not in SCHEMES:
        raise UnknownSource(
            f"a provider is one of {', '.join(SCHEMES)}, got {quoted(scheme)}{suggestion(scheme, SCHEMES, ALIASES)}"
        )
    listed = (name for name in _PROVIDERS if name not in _LISTED_BY_NAME) if scheme is None else (scheme,)
    for name in listed:
        provider = _provider(name, registry)
        for spec in provider.specs():
            with suppress(UnknownSource) if name == REGISTRY else nullcontext():
                yield provider.source(spec)


def _meant(spec: str) -> str:
    """Suggest the spec that was probably meant where its scheme is unknown, or missing."""
    scheme, colon, rest = spec.partition(":")
    if not colon:
        models = {f"{each}:{name}": name for each, file in _PINNED.items() for name in read_pinned(file)}
        model = nearest(scheme, models.values())
        return next((f"; did you mean {full!r}?" for full, name in models.items() if name == model), "")
    near = nearest(scheme, SCHEMES, ALIASES)
    return "" if near is None else f"; did you mean {quoted(f'{near}:{rest}')}?"


def _provider(scheme: str, registry: Registry | None) -> SourceProvider:
    if scheme == REGISTRY:
        from adapters.sources.registered import RegistryProvider

        if registry is None:
            raise UnknownSource("a registered version is a source only where there is a registry")
        return RegistryProvider(registry, find)
    module, _, name = _PROVIDERS[scheme].partition(":")
    provider: SourceProvider = getattr(import_module(module), name)()
    return provider
