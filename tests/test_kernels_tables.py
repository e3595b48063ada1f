"""Rules and makers of plans are found in the modules that the tables name, so that these are loaded when there is a use for them."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import backends.kernels
from backends.kernels import elements, lowering, schedules


@pytest.fixture(autouse=True, scope="module")
def everything_is_loaded() -> None:
    for package in (backends.kernels, schedules):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


def test_the_table_of_rules_is_complete() -> None:
    elsewhere = {name: r.__module__ for name, r in elements._rules.items() if r.__module__ != elements.__name__}
    assert elsewhere == {name: f"backends.kernels.{module}" for name, module in elements._MODULE_OF.items()}


def test_the_table_of_plans_is_complete() -> None:
    made = {**lowering._by_kind, **lowering._by_primitive}
    found = {name: maker.__module__ for name, maker in made.items()}
    assert found == {name: f"backends.kernels.schedules.{module}" for name, module in lowering._MODULE_OF.items()}
