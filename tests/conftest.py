"""What every test may ask for: real servers of its own, an application on them, and the whole product."""

import pkgutil
from importlib import import_module

import pytest
from hypothesis import HealthCheck, settings

import pipelit

PARTS = ("application", "servers", "databases", "product", "hand", "callers", "crew", "unruly")
pytest_plugins = [f"tests.support.{name}" for name in PARTS]

# Without limits of time, because other tests may keep the machine busy, and without memories of other runs. The suite
# tries the same examples in every run, `make properties` looks for others (docs/testing.md).
settings.register_profile(
    "suite", max_examples=100, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", settings.get_profile("suite"), max_examples=2_000, derandomize=False, database=None)
settings.load_profile("suite")

DATABASES = {"sqlite": ["sqlite"], "postgresql": ["postgresql"], "both": ["sqlite", "postgresql"]}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--database", choices=sorted(DATABASES), default="sqlite", help="databases the tests run on")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that uses a database once on every kind that was asked for."""
    if "database_kind" in metafunc.fixturenames:
        kinds = DATABASES[metafunc.config.getoption("--database")]
        metafunc.parametrize("database_kind", kinds, scope="session")


def pytest_collection_finish() -> None:
    """Load the whole product: Hypothesis draws constants of what is loaded, and that should not be up to the order."""
    for module in pkgutil.walk_packages(pipelit.__path__, "pipelit."):
        import_module(module.name)
