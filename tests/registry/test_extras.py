"""Extras: each holds what it says, and says where it is missing."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest

from registry.errors import MissingExtra
from registry.extras import ADAPT, MINILM, PARQUET, POSTGRES, SERVE, Extra

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("extra", [ADAPT, SERVE, POSTGRES, MINILM], ids=lambda extra: extra.name)
def test_an_extra_is_known_by_a_module_of_each_of_its_distributions(extra: Extra) -> None:
    required = {
        re.split(r"[^A-Za-z0-9-]", requirement)[0].lower().replace("_", "-")
        for requirement in PROJECT["optional-dependencies"][extra.name]
    }
    given = importlib.metadata.packages_distributions()
    modules = {
        distribution.lower().replace("_", "-")
        for module in extra.modules
        for distribution in given.get(module, ())
    }
    assert required <= modules


def test_what_is_installed_is_required_without_a_word() -> None:
    Extra("tests", ("pytest", "json")).require("a test")


def test_what_is_missing_is_named_with_its_extra() -> None:
    with pytest.raises(
        MissingExtra, match=r"^'dream' needs cultivar\[a\] or cultivar\[b\], .*no_such_module"
    ):
        Extra("a|b", ("json", "no_such_module")).require("'dream'")
    assert all(module in ADAPT.modules and module in SERVE.modules for module in PARQUET.modules)
