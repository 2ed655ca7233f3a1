"""The registry: versions, their bytes, and the code to open them.

Names such as ``from registry import Registry, Settings, Ref, Manifest`` are loaded on first use. So a process
that needs only a value type does not load the database libraries.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry.digests import Digest
    from registry.errors import CultivarError
    from registry.manifest import Manifest
    from registry.names import Ref, Transfer
    from registry.program import Program
    from registry.registry import Registry
    from registry.settings import Settings
    from registry.versions import Version

__all__ = [
    "CultivarError",
    "Digest",
    "Manifest",
    "Program",
    "Ref",
    "Registry",
    "Settings",
    "Transfer",
    "Version",
]

_HOMES = {
    "CultivarError": "errors",
    "Digest": "digests",
    "Manifest": "manifest",
    "Program": "program",
    "Ref": "names",
    "Registry": "registry",
    "Settings": "settings",
    "Transfer": "names",
    "Version": "versions",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'registry' has no attribute {name!r}")
    return getattr(import_module(f"registry.{_HOMES[name]}"), name)
