"""Calls of the HTTP client, for stories about it."""

import pytest

from pipelit.errors import PipelitError
from pipelit.integrations.http import HttpClient, HttpRequest

LOCAL = ("127.0.0.0/8",)


def get(url: str, **options: object) -> HttpRequest:
    return HttpRequest("GET", url, **options)  # type: ignore[arg-type]  # the story's own options


def refused(client: HttpClient, request: HttpRequest) -> type[PipelitError]:
    with pytest.raises(PipelitError) as error:
        client.send(request)
    return type(error.value)
