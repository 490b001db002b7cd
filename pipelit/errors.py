"""Every way Pipelit says no, as one tree of named exceptions.

```
PipelitError(code, status, detail)
├─ NotFound · Unauthorized · Forbidden · TooLarge · TooManyRequests · UnsupportedEncoding · StaleVersion · Unavailable
├─ ExecutionFailed
├─ Dropped · Superseded        why an execution of a workflow with a limit was cancelled
├─ ExecutionTimedOut           why an execution, and what was under way of it, was ended by the clock
├─ Conflict ─ AlreadyExists, WrongState, WorkflowBusy, LastAdmin, AlreadySetUp, RequestInProgress, AnswerLost
├─ Invalid(errors)            what the caller sent, by field
│   └─ InvalidGraph(problems) every problem of a workflow at once
├─ SettingsError              the process cannot start like this
├─ StepError(retryable)       why one attempt of one step failed
│   ├─ ConfigError        no  the author must change something
│   ├─ ExpressionError    no  a template names something that is not there
│   ├─ UpstreamError     yes  the other side may recover (`after`: seconds it asked for)
│   ├─ UpstreamRefused    no  the other side answered, and asking again the same way will not help
│   ├─ AddressRefused     no  the outgoing call is not allowed to go there
│   ├─ StepTimeout       yes  the step took longer than its limit
│   ├─ StepCancelled      no  the execution was stopped while the step ran
│   ├─ OutOfMemory        no  the step wants more memory than a process may have
│   ├─ OutputInvalid      no  what the node returned is not JSON
│   ├─ OutputTooLarge     no  what the node returned, or is to read, is larger than any output may be
│   ├─ TooManyItems       no  a loop was given more items than it may run through
│   ├─ ItemLost           no  the item of an iteration is not stored any more
│   ├─ ApprovalTimeout    no  nobody answered a question in time, and that is a failure
│   ├─ ChildRefused       no  the workflow to be called is not there, not allowed, or cannot run
│   ├─ ChildFailed        no  the workflow that was called failed or was cancelled
│   ├─ DepthExceeded      no  workflows call one another without end
│   ├─ AssertionFailed    no  an assertion with `fail_execution` did not hold
│   ├─ WorkerLost        yes  the worker died while the step ran
│   └─ NodeCrashed        no  a bug in the node type
└─ CredentialError            a stored secret cannot be read with the present key
```

`code` is stable and has a paragraph in `docs/errors.md`; `status` is the HTTP status the API answers with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class PipelitError(Exception):
    """The root: `detail` is one sentence for a person, `code` is for a program."""

    code = "internal_error"
    status = 500
    title = "Internal error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class NotFound(PipelitError):
    code, status, title = "not_found", 404, "Not found"


class Unauthorized(PipelitError):
    code, status, title = "unauthorized", 401, "Not authenticated"


class Forbidden(PipelitError):
    code, status, title = "forbidden", 403, "Not allowed"


class TooLarge(PipelitError):
    code, status, title = "too_large", 413, "Too large"


class UnsupportedEncoding(PipelitError):
    code, status, title = "unsupported_encoding", 415, "Encoding not supported"


class StaleVersion(PipelitError):
    code, status, title = "stale_version", 412, "Changed by somebody else"


class Unavailable(PipelitError):
    code, status, title = "unavailable", 503, "Not available right now"


class ExecutionFailed(PipelitError):
    """A workflow that was to answer a request did not come to an end; why is for its owner to read."""

    code, status, title = "execution_failed", 500, "The workflow did not complete"


class Dropped(PipelitError):
    """An execution of a workflow that lets none wait came while as many ran as may."""

    code, status, title = "dropped", 429, "Not begun"


class Superseded(PipelitError):
    """An execution of a workflow that prefers newer ones was cancelled for one."""

    code, title = "superseded", "A newer one took its place"


class ExecutionTimedOut(PipelitError):
    """An execution took longer than its workflow allows."""

    code, title = "execution_timed_out", "The execution took too long"


class StartRefused(PipelitError):
    """An execution that was accepted and can never begin; it fails with this code."""

    code, title = "start_refused", "The execution could not be started"


class TooManyRequests(PipelitError):
    """`after`: seconds until another try makes sense."""

    code, status, title = "too_many_requests", 429, "Too many requests"

    def __init__(self, detail: str, *, after: int) -> None:
        super().__init__(detail)
        self.after = after


class Conflict(PipelitError):
    code, status, title = "conflict", 409, "Conflict"


class AlreadyExists(Conflict):
    code, title = "already_exists", "Already there"


class WrongState(Conflict):
    code, title = "wrong_state", "Not possible in this state"


class WorkflowBusy(Conflict):
    code, title = "workflow_busy", "The workflow is running"


class LastAdmin(Conflict):
    code, title = "last_admin", "The last administrator"


class AlreadySetUp(Conflict):
    code, title = "already_set_up", "Already set up"


class RequestInProgress(Conflict):
    """`after`: seconds until the first request with this key may have been answered."""

    code, title = "request_in_progress", "The first request with this key is still running"

    def __init__(self, detail: str, *, after: int) -> None:
        super().__init__(detail)
        self.after = after


class AnswerLost(Conflict):
    code, title = "answer_lost", "Carried out before, but its answer was lost"


class IdempotencyConflict(PipelitError):
    code, status, title = "idempotency_conflict", 422, "Idempotency key used for another request"


class Invalid(PipelitError):
    """What the caller sent is not acceptable; `errors` maps a field path (`config.url`) to its messages."""

    code, status, title = "invalid", 422, "Invalid"

    def __init__(self, detail: str, errors: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__(detail)
        self.errors = {path: list(messages) for path, messages in (errors or {}).items()}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a workflow's graph, at a node or an edge."""

    code: str
    message: str
    node_id: str | None = None
    edge_id: int | None = None


class InvalidGraph(Invalid):
    code, title = "invalid_graph", "The workflow cannot run"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(f"The workflow has {len(problems)} problem(s): {problems[0].message}")
        self.problems = tuple(problems)


class SettingsError(PipelitError):
    """A missing or wrong setting; the message is the one sentence that stops the start."""

    code, title = "settings", "Wrong settings"


class CredentialError(PipelitError):
    code, status, title = "credential_unreadable", 500, "A stored secret cannot be read"


class StepError(PipelitError):
    """Why one attempt of a step failed; `retryable` tells the failure policy whether another may succeed."""

    code, title = "step_failed", "The step failed"
    retryable = False


class ConfigError(StepError):
    code, title = "config_invalid", "The node's configuration does not fit its input"


class ExpressionError(StepError):
    code, title = "expression_failed", "An expression failed"


class UpstreamError(StepError):
    """`after`: seconds the other side asked to wait, if it did."""

    code, title = "upstream_failed", "The other side failed"
    retryable = True

    def __init__(self, detail: str, *, after: float | None = None) -> None:
        super().__init__(detail)
        self.after = after


class UpstreamRefused(StepError):
    code, title = "upstream_refused", "The other side refused"


class AddressRefused(StepError):
    code, title = "address_refused", "The address is not allowed"


class StepTimeout(StepError):
    code, title = "step_timeout", "The step took too long"
    retryable = True


class StepCancelled(StepError):
    code, title = "step_cancelled", "The execution was stopped"


class OutOfMemory(StepError):
    code, title = "out_of_memory", "The step needs too much memory"


class OutputInvalid(StepError):
    code, title = "output_invalid", "The output is not JSON"


class OutputTooLarge(StepError):
    code, title = "output_too_large", "The output is too large"


class TooManyItems(StepError):
    code, title = "too_many_items", "Too many items for the loop"


class ItemLost(StepError):
    code, title = "item_lost", "The iteration's item is not stored any more"


class ApprovalTimeout(StepError):
    code, title = "approval_timeout", "Nobody answered in time"


class ChildRefused(StepError):
    code, title = "child_refused", "The workflow could not be called"


class ChildFailed(StepError):
    code, title = "child_failed", "The workflow that was called failed"


class DepthExceeded(StepError):
    code, title = "depth_exceeded", "Too many workflows call one another"


class AssertionFailed(StepError):
    code, title = "assertion_failed", "An assertion failed"


class WorkerLost(StepError):
    code, title = "worker_lost", "The worker died"
    retryable = True


class NodeTypeUnknown(StepError):
    code, title = "node_type_unknown", "No worker knows the node type"


class NodeCrashed(StepError):
    code, title = "node_crashed", "The node type has a bug"
