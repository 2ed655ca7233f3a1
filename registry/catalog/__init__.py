"""The catalog: which versions there are, what they need, and what happened to them."""

from registry.catalog.catalog import Blob, Catalog, CatalogHead, CatalogIdentity
from registry.catalog.sql import SqlCatalog

__all__ = ["Blob", "Catalog", "CatalogHead", "CatalogIdentity", "SqlCatalog"]
