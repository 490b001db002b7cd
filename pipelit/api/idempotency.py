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
from pipelit.errors import AnswerLost, Invalid
from pipelit.services import idempotency

View = TypeVar("View", bound=Callable[..., Any])

Again = Callable[[str], Response]
"""What answers of an execution, by its id, that an earlier request started."""

HEADER = "Idempotency-Key"
VISIBLE_ASCII = re.compile(r"[\x21-\x7e]{1,128}")
REPLAYED_HEADERS = ("Content-Type", "ETag", "Location", "Retry-After")


def idempotent(view: View) -> View:
    """Honour the header, per user; without it the view is as it was."""
    return _honouring(view, None)


def idempotent_start(again: Again) -> Callable[[View], View]:
    """The same for a view that starts an execution: where its answer was lost, `again` makes it of the execution."""
    return lambda view: _honouring(view, again)


def once(owner: str, key: str, answer: Callable[[], Response], again: Again | None = None) -> Response:
    """The answer to the present request, made by `answer` unless the owner's key has one already.

    If the process died that had the request, and it has started an execution, the answer is made by `again`.
    """
    if not VISIBLE_ASCII.fullmatch(key):
        message = "Must be 1 to 128 visible ASCII characters."
        raise Invalid(f"{HEADER}: {message}", {HEADER: [message]})
    print_ = idempotency.fingerprint(request.method, request.full_path, request.get_data(cache=True))
    match idempotency.begin(owner, key, print_, clock.now()):
        case idempotency.Answer() as answered:
            return _replayed(Response(answered.body, answered.status, answered.headers))
        case idempotency.Started(execution_id):
            if again is None:
                raise AnswerLost("The request was carried out, but its answer was lost. Look for its effect.")
            return _replayed(again(execution_id))
        case idempotency.Running() as running:
            return _first(running, answer)


def _honouring(view: View, again: Again | None) -> View:
    @functools.wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Response:
        key = request.headers.get(HEADER)
        if key is None:
            return make_response(view(*args, **kwargs))
        return once(f"user:{current_user().id}", key, lambda: make_response(view(*args, **kwargs)), again)

    return cast(View, mark(IDEMPOTENT)(wrapper))


def _first(running: idempotency.Running, answer: Callable[[], Response]) -> Response:
    with idempotency.running(running):
        response = answer()
    etag.finish(response)
    headers = {name: response.headers[name] for name in REPLAYED_HEADERS if name in response.headers}
    idempotency.finish(running, idempotency.Answer(response.status_code, response.get_data(as_text=True), headers))
    return response


def _replayed(response: Response) -> Response:
    response.headers["Idempotent-Replayed"] = "true"
    return response
