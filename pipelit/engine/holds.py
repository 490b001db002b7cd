"""How long steps wait for a person, or for their next attempt: noted in the working state while they do."""

from pipelit.engine.core.graph import Plan
from pipelit.engine.core.state import StepId
from pipelit.engine.keys import due_field, held_field
from pipelit.engine.store import Store, Transaction
from pipelit.engine.timing import Due


class Holds:
    """The holds that one transition begins and ends. `at` is its time in ms since the epoch.

    While a step is held its field has the moment since when; once it may run, how long that was.
    """

    def __init__(self, store: Store, write: Transaction, plan: Plan, at: float) -> None:
        self.store = store
        self.write = write
        self.plan = plan
        self.at = at

    def begin(self, step: StepId, waited: float) -> None:
        """Hold a step that has waited for so many ms already: as if it had been held since then."""
        self.write.call("HSET", self.write.keys.data, held_field(step), self.at - waited)

    def release(self, step: StepId) -> None:
        """Let a step run, and keep how long it was held for its first attempt."""
        self.write.call("HSET", self.write.keys.data, held_field(step), self.waited(step))

    def waited(self, step: StepId) -> float:
        """How many ms a held step has waited in all by now."""
        since = self._stored(step)
        return max(0.0, round(self.at - since, 3)) if since else 0.0

    def before(self, step: StepId, attempt: int) -> float:
        """How long a person was asked before the attempt: only the first one of a step waits for that."""
        is_first = attempt == 1 and self.plan.nodes[step.node].interrupt_before
        return self._stored(step) if is_first else 0.0

    def put_off(self, step: StepId, attempt: int, delay: float, waited: float) -> None:
        """Note when an attempt is due, for whoever breaks it off before; the one before it has waited so long."""
        due = Due(attempt, self.at + delay, self.at, waited)
        self.write.call("HSET", self.write.keys.data, due_field(step), due.text())

    def _stored(self, step: StepId) -> float:
        field = held_field(step)
        return float(self.store.values(self.write.execution_id, [field])[field] or 0.0)
