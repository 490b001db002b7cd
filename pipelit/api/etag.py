"""ETags: a reader learns the version of what it read, a writer says which version it means to change.

```python
@blueprint.response(200, UserSchema)
@etag.tagged
def get(self, user_id: int) -> UserProfile:
    return etag.tag(users.get(user_id))


@blueprint.response(200, UserSchema)
@etag.guarded
def patch(self, changes: dict[str, object], user_id: int) -> UserProfile:
    return etag.tag(users.change(user_id, changes, etag.if_match()))
```

The version of a row is its `revision` if it has one, and the time of its last change. The check runs inside the
service's transaction, where nobody can change the row between the check and the write.
"""

import hashlib
from typing import TypeVar

from flask import Response, current_app, g, request

from pipelit.api.marks import GUARDED, TAGGED, mark, marks, view_of
from pipelit.errors import StaleVersion
from pipelit.services.preconditions import Precondition

Row = TypeVar("Row")

tagged = mark(TAGGED)
"""The answer of this view has an ETag: that of the row it names with `tag`, else that of its content."""

guarded = mark(GUARDED)
"""This view honours `If-Match`."""


def version(row: object) -> str:
    """The opaque tag of a row as it is now."""
    parts = (type(row).__name__, *(getattr(row, name, None) for name in ("id", "revision", "updated_at")))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def tag(row: Row) -> Row:
    """The same row; the answer will carry its ETag."""
    g.etag = version(row)
    return row


def if_match() -> Precondition:
    """What the request's `If-Match` demands of the row it changes."""
    is_conditional, wanted = "If-Match" in request.headers, request.if_match

    def check(row: object) -> None:
        if is_conditional and not wanted.contains(version(row)):
            raise StaleVersion("It was changed since you read it. Read it again, then repeat your change.")

    return check


def finish(response: Response) -> Response:
    """Put the ETag on the answer; a reader who has this version already gets 304.

    A view that is marked and names no row is tagged by what it answers.
    """
    is_tagged = "etag" in g or TAGGED in marks(view_of(current_app, request.endpoint, request.method))
    if not is_tagged or not 200 <= response.status_code < 300:
        return response
    if "etag" in g:
        response.set_etag(g.etag)
    else:
        response.add_etag()
    response.headers["Cache-Control"] = "private, no-cache"
    response.make_conditional(request)
    return response
