"""The HTTP client of the stories, which may call this machine."""

from collections.abc import Iterator

import pytest

from pipelit.integrations.http import HttpClient
from tests.integrations.calls import LOCAL


@pytest.fixture
def client() -> Iterator[HttpClient]:
    with HttpClient(LOCAL) as client:
        yield client
