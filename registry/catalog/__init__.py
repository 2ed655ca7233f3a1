"""The catalog: which versions there are, what they need, and what happened to them."""

from registry.catalog.catalog import Blob, Catalog, Head, Identity
from registry.catalog.sql import SqlCatalog

__all__ = ["Blob", "Catalog", "Head", "Identity", "SqlCatalog"]
