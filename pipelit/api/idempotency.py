"""`Idempotency-Key` on a POST that creates or starts something: sent twice, done once, answered twice.

```python
@idempotent
@blueprint.arguments(...)
@blueprint.response(201, ...)
def post(self, ...): ...
```

It goes outermost: what it keeps is the finished response.
"""

import functools
import re
from collections.abc import Callable
from typing import Any, TypeVar, cast

from flask import Response, make_response, request

from pipelit import clock
from pipelit.api import etag
from pipelit.api.auth import current_user
from pipelit.api.marks import IDEMPOTENT, mark
from pipelit.errors import Invalid
from pipelit.services import idempotency

View = TypeVar("View", bound=Callable[..., Any])

HEADER = "Idempotency-Key"
VISIBLE_ASCII = re.compile(r"[\x21-\x7e]{1,128}")
REPLAYED_HEADERS = ("Content-Type", "ETag", "Location", "Retry-After")


def idempotent(view: View) -> View:
    """Honour the header, per user; without it the view is as it was."""

    @functools.wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Response:
        key = request.headers.get(HEADER)
        if key is None:
            return make_response(view(*args, **kwargs))
        return once(f"user:{current_user().id}", key, lambda: make_response(view(*args, **kwargs)))

    return cast(View, mark(IDEMPOTENT)(wrapper))


def once(owner: str, key: str, answer: Callable[[], Response]) -> Response:
    """The answer to the present request, made by `answer` unless the owner's key has one already."""
    if not VISIBLE_ASCII.fullmatch(key):
        message = "Must be 1 to 128 visible ASCII characters."
        raise Invalid(f"{HEADER}: {message}", {HEADER: [message]})
    print_ = idempotency.fingerprint(request.method, request.full_path, request.get_data(cache=True))
    record = idempotency.begin(owner, key, print_, clock.now())
    if isinstance(record, idempotency.Answer):
        return _replayed(record)
    with idempotency.running(record):
        response = answer()
    etag.finish(response)
    headers = {name: response.headers[name] for name in REPLAYED_HEADERS if name in response.headers}
    idempotency.finish(record, idempotency.Answer(response.status_code, response.get_data(as_text=True), headers))
    return response


def _replayed(answer: idempotency.Answer) -> Response:
    response = Response(answer.body, answer.status, answer.headers)
    response.headers["Idempotent-Replayed"] = "true"
    return response
