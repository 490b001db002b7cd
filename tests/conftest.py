"""What every test may ask for: real servers of its own, an application on them, and the whole product."""

import pytest

PARTS = ("application", "servers", "databases", "product", "hand", "callers", "crew", "unruly")
pytest_plugins = [f"tests.support.{name}" for name in PARTS]

DATABASES = {"sqlite": ["sqlite"], "postgresql": ["postgresql"], "both": ["sqlite", "postgresql"]}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--database", choices=sorted(DATABASES), default="sqlite", help="databases the tests run on")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that uses a database once on every kind that was asked for."""
    if "database_kind" in metafunc.fixturenames:
        kinds = DATABASES[metafunc.config.getoption("--database")]
        metafunc.parametrize("database_kind", kinds, scope="session")
