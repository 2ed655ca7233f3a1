"""The catalog: the registered versions, the blobs that they need, and their history."""

from registry.catalog.catalog import Blob, Catalog, CatalogHead, CatalogIdentity
from registry.catalog.sql import SqlCatalog

__all__ = ["Blob", "Catalog", "CatalogHead", "CatalogIdentity", "SqlCatalog"]
