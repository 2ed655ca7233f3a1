"""One table for all exports."""

from tests.exporter import translations_made_once

__all__ = ["translations_made_once"]
