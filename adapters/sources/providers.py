"""Every provider by the scheme of its specs, imported when it is first asked for."""

from collections.abc import Iterator
from importlib import import_module

from adapters.sources.source import Provider, Source
from registry.errors import UnknownSource

_PROVIDERS = {
    "bundled": "adapters.sources.bundled:BundledProvider",
    "torchvision": "adapters.sources.torchvision:TorchvisionProvider",
    "timm": "adapters.sources.timm:TimmProvider",
    "hf": "adapters.sources.hf.provider:HfProvider",
    "vectors": "adapters.sources.vectors:VectorsProvider",
}

_LISTED_BY_NAME = frozenset({"timm"})
"""Providers of over a thousand models, which would bury all others."""


def find(spec: str) -> Source:
    """Return the source that a spec names.

    Raises:
        UnknownSource: no provider has that scheme, or the provider has no such model.
    """
    scheme, colon, _ = spec.partition(":")
    if not colon or scheme not in _PROVIDERS:
        schemes = ", ".join(f"{name}:…" for name in _PROVIDERS)
        raise UnknownSource(f"a source is {schemes}; got {spec!r:.100}; 'cultivar sources' lists them all")
    return _provider(scheme).source(spec)


def offered(scheme: str | None = None) -> Iterator[Source]:
    """Yield every source on offer, or those of one scheme, each with its default weights.

    timm's are only yielded where they are asked for.

    Raises:
        UnknownSource: there is no such scheme.
    """
    if scheme is not None and scheme not in _PROVIDERS:
        raise UnknownSource(f"a provider is one of {', '.join(_PROVIDERS)}, got {scheme!r:.100}")
    listed = (name for name in _PROVIDERS if name not in _LISTED_BY_NAME) if scheme is None else (scheme,)
    for name in listed:
        provider = _provider(name)
        for spec in provider.specs():
            yield provider.source(spec)


def _provider(scheme: str) -> Provider:
    module, _, name = _PROVIDERS[scheme].partition(":")
    provider: Provider = getattr(import_module(module), name)()
    return provider
