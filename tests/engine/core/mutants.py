"""Single edits of the scheduler's text, each with the rule that it breaks and the property that must notice."""

from dataclasses import dataclass

from hypothesis.strategies import SearchStrategy

from pipelit.engine.core.graph import FailurePolicy, Join
from tests.engine.core import properties
from tests.engine.core.driver import Kind
from tests.engine.core.properties import Property
from tests.strategies import Case, Shape, cases

ANY, BRANCHES, LOOP = cases(), cases(shape=Shape.BRANCHES), cases(shape=Shape.LOOP)
STOPPED = cases(ends=[Kind.CANCEL])


@dataclass(frozen=True, slots=True)
class Mutant:
    rule: str
    flaw: str
    original: str
    replacement: str
    killer: Property
    cases: SearchStrategy[Case] = ANY


DEAD_PATH = [
    Mutant(
        "1 dead path",
        "a join does not wait for its other branches",
        "(self.plan.nodes[step.node].join is Join.ANY or not is_open)",
        "True",
        properties.a_step_is_decided_by_its_edges,
        BRANCHES,
    ),
    Mutant(
        "1 dead path",
        "an impatient join waits for all branches",
        "(self.plan.nodes[step.node].join is Join.ANY or not is_open)",
        "not is_open",
        properties.a_step_is_decided_by_its_edges,
        BRANCHES,
    ),
    Mutant(
        "1 dead path",
        "a step is skipped while a branch to it is open",
        "elif not is_open:",
        "else:",
        properties.the_outcome_is_the_oracles,
        BRANCHES,
    ),
    Mutant(
        "1 dead path",
        "what lies behind a skipped step is never decided",
        "self._settle(step, StepState(StepStatus.SKIPPED))",
        "self._put(step, StepState(StepStatus.SKIPPED))",
        properties.a_step_is_decided_by_its_edges,
        BRANCHES,
    ),
    Mutant(
        "1 dead path",
        "a second branch runs the join again",
        "        if step in self.steps:\n            return\n",
        "",
        properties.a_step_runs_once,
        BRANCHES,
    ),
    Mutant(
        "1 dead path",
        "an edge is taken whichever route was chosen",
        " and source.route == edge.route",
        "",
        properties.the_outcome_is_the_oracles,
        BRANCHES,
    ),
    Mutant(
        "1 dead path",
        "an error edge is taken by a skipped step",
        "return source.status is StepStatus.FAILED",
        "return source.status is not StepStatus.SUCCEEDED",
        properties.the_outcome_is_the_oracles,
        BRANCHES,
    ),
    Mutant(
        "1 dead path",
        "a joined step runs on in an iteration that was folded",
        "                continue  # its iteration was folded on behalf of a step that settled at the same time",
        "                pass",
        properties.the_outcome_is_the_oracles,
        cases([Join.ANY], form="start -> n0{ n1.x -> n2 -> n3; n0 -> n3 }"),
    ),
]
FENCING = [
    Mutant(
        "2 fencing",
        "an answer from an earlier attempt counts",
        "known.attempt != event.attempt or ",
        "",
        properties.what_is_not_expected_changes_nothing,
    ),
    Mutant(
        "2 fencing",
        "a step that has settled can be told its end again",
        " or known.status not in _told_while(event)",
        "",
        properties.the_outcome_does_not_depend_on_delivery,
    ),
    Mutant(
        "2 fencing",
        "a retry has the number of the attempt before it",
        "StepState(StepStatus.READY, known.attempt + 1, failures, known.losses)",
        "StepState(StepStatus.READY, known.attempt, failures, known.losses)",
        properties.a_step_runs_once,
    ),
    Mutant(
        "2 fencing",
        "a suspended step can be suspended again",
        "        case StepResumed():\n            return (StepStatus.WAITING,)\n",
        "        case StepResumed() | StepSuspended():\n            return (StepStatus.WAITING, StepStatus.READY)\n",
        properties.what_is_not_expected_changes_nothing,
    ),
    Mutant(
        "2 fencing",
        "the release before a step answers the hold behind it",
        "known.status is not (StepStatus.HELD_AFTER if is_after else StepStatus.HELD_BEFORE)",
        "known.status not in (StepStatus.HELD_AFTER, StepStatus.HELD_BEFORE)",
        properties.what_is_not_expected_changes_nothing,
    ),
]
LOOPS = [
    Mutant(
        "3 loops",
        "more iterations run than may",
        "self.plan.loops[loop.node].concurrency - len(progress.open)",
        "self.plan.loops[loop.node].concurrency",
        properties.iterations_run_in_order_and_within_bounds,
        LOOP,
    ),
    Mutant(
        "3 loops",
        "iterations start from the last to the first",
        "        for index in started:",
        "        for index in reversed(started):",
        properties.iterations_run_in_order_and_within_bounds,
        LOOP,
    ),
    Mutant(
        "3 loops",
        "a loop ends when its last item has started",
        "        if not progress.open:",
        "        if progress.following == progress.total:",
        properties.iterations_run_in_order_and_within_bounds,
        LOOP,
    ),
    Mutant(
        "3 loops",
        "an iteration is folded when one of its steps has settled",
        "        if all(self._is_settled(StepId(node, scope))",
        "        if any(self._is_settled(StepId(node, scope))",
        properties.the_outcome_is_the_oracles,
        LOOP,
    ),
    Mutant(
        "3 loops",
        "folded iterations stay in the state",
        "            del self.steps[step]",
        "            pass",
        properties.a_loop_holds_its_frontier_only,
        LOOP,
    ),
    Mutant(
        "3 loops",
        "loops inside a dropped iteration stay in the state",
        "if step.scope[:depth] == scope]",
        "if step.scope == scope]",
        properties.a_loop_holds_its_frontier_only,
        cases(form="start -> n0{ n1{ n2 }; n3 }"),
    ),
    Mutant(
        "3 loops",
        "a step without output is an iteration's result",
        "        return next((step for step in returns if self.steps[step].status is StepStatus.SUCCEEDED), None)",
        "        return next(returns, None)",
        properties.the_outcome_is_the_oracles,
        cases(form="start -> n0{ n1.x -> n2; n1.y -> n3 }"),
    ),
    Mutant(
        "3 loops",
        "what a folded iteration commanded is void",
        "        self.commands.append(result)",
        "        self.commands = [result]",
        properties.the_outcome_is_the_oracles,
        LOOP,
    ),
]
ONCE = [
    Mutant(
        "4 once",
        "an execution that has ended still listens",
        "    if state.status.is_final:\n        return state, ()\n",
        "",
        properties.an_execution_ends_once,
        STOPPED,
    ),
    Mutant(
        "4 once",
        "a failed or cancelled execution completes as well",
        "self.changed and not self.status.is_final and all(",
        "self.changed and all(",
        properties.an_execution_ends_once,
        STOPPED,
    ),
    Mutant(
        "4 once",
        "an execution completes while steps run",
        "all(known.is_settled for known in self.steps.values())",
        "any(known.is_settled for known in self.steps.values())",
        properties.an_execution_ends_once,
    ),
    Mutant(
        "4 once",
        "an execution never completes",
        "self._finish(ExecutionStatus.COMPLETED)",
        "pass",
        properties.an_execution_ends_once,
    ),
    Mutant(
        "4 once",
        "a cancelled execution does not say why",
        "self._finish(ExecutionStatus.CANCELLED, failure=failure)",
        "self._finish(ExecutionStatus.CANCELLED)",
        properties.an_execution_ends_once,
        STOPPED,
    ),
    Mutant(
        "4 once",
        "an execution that took too long does not say where it was",
        "self._finish(ExecutionStatus.TIMED_OUT, where, failure)",
        "self._finish(ExecutionStatus.TIMED_OUT, failure=failure)",
        properties.an_execution_ends_once,
        cases(ends=[Kind.TIME_OUT]),
    ),
    Mutant(
        "4 once",
        "an execution starts again",
        "        if self.status is not ExecutionStatus.PENDING:\n            return\n",
        "",
        properties.what_is_not_expected_changes_nothing,
    ),
]
FAILURE = [
    Mutant(
        "5 failure",
        "there is one attempt too many",
        "failures < retry.attempts",
        "failures <= retry.attempts",
        properties.a_failure_follows_the_policy,
        BRANCHES,
    ),
    Mutant(
        "5 failure",
        "what cannot succeed is tried again",
        "if failure.retryable and ",
        "if ",
        properties.a_failure_follows_the_policy,
        BRANCHES,
    ),
    Mutant(
        "5 failure",
        "the other side's wish to wait is not heard",
        "max(retry.delay(failures), failure.after or 0.0)",
        "retry.delay(failures)",
        properties.a_failure_follows_the_policy,
        BRANCHES,
    ),
    Mutant(
        "5 failure",
        "waiting makes the failures forgotten",
        "StepState(StepStatus.WAITING, known.attempt, known.failures, known.losses)",
        "StepState(StepStatus.WAITING, known.attempt)",
        properties.a_failure_follows_the_policy,
        BRANCHES,
    ),
    Mutant(
        "5 failure",
        "a worker's death counts as a failure of the step",
        "StepState(StepStatus.READY, known.attempt + 1, known.failures, known.losses + 1)",
        "StepState(StepStatus.READY, known.attempt + 1, known.failures + 1, known.losses + 1)",
        properties.a_failure_follows_the_policy,
        BRANCHES,
    ),
    Mutant(
        "5 failure",
        "a step may kill one worker more",
        "known.losses < MAX_LOSSES",
        "known.losses <= MAX_LOSSES",
        properties.a_failure_follows_the_policy,
        BRANCHES,
    ),
    Mutant(
        "5 failure",
        "the error port looks like success",
        "self._settle(step, StepState(StepStatus.FAILED, known.attempt))",
        "self._settle(step, StepState(StepStatus.SUCCEEDED, known.attempt))",
        properties.a_failure_follows_the_policy,
        BRANCHES,
    ),
    Mutant(
        "5 failure",
        "the default value is not put in place",
        "                self.commands.append(UseDefault(step))\n",
        "",
        properties.a_failure_follows_the_policy,
        BRANCHES,
    ),
    Mutant(
        "5 failure",
        "a collected failure is lost",
        "CollectResult(owner, index, failure=failure)",
        "CollectResult(owner, index)",
        properties.the_outcome_is_the_oracles,
        LOOP,
    ),
    Mutant(
        "5 failure",
        "a loop that stops ends the execution, whatever its own policy says",
        "                self._give_up(owner, known, failure, cause)",
        "                self._stop(owner, failure, cause)",
        properties.the_outcome_is_the_oracles,
        cases(form="start -> n0{ n1 }"),
    ),
    Mutant(
        "5 failure",
        "the execution names the loop instead of the step that failed",
        "self._stop(step, failure, cause or step)",
        "self._stop(step, failure, step)",
        properties.a_stopped_execution_names_the_step_that_failed,
        cases(form="start -> n0{ n1 }", policies=[FailurePolicy()]),
    ),
    Mutant(
        "5 failure",
        "how the worker died is left out",
        """how = f" ({event.reason})" if event.reason else \"\"""",
        'how = ""',
        properties.a_loss_is_told_with_its_reason,
        BRANCHES,
    ),
    Mutant(
        "5 failure",
        "how the worker died is told although nobody knows",
        """how = f" ({event.reason})" if event.reason else \"\"""",
        'how = f" ({event.reason})"',
        properties.a_loss_is_told_with_its_reason,
        BRANCHES,
    ),
    Mutant(
        "5 failure",
        "a step that was not to be repeated is said to have died too often",
        "reason = deaths if is_safe else",
        "reason = deaths if True else",
        properties.a_loss_is_told_with_its_reason,
        BRANCHES,
    ),
]
HOLDS = [
    Mutant(
        "6 holds",
        "nobody is asked before a step",
        "if self.plan.nodes[step.node].interrupt_before:",
        "if False:",
        properties.a_held_step_waits_for_its_release,
    ),
    Mutant(
        "6 holds",
        "nobody is asked behind a step",
        "if self.plan.nodes[step.node].interrupt_after:",
        "if False:",
        properties.a_held_step_waits_for_its_release,
    ),
    Mutant(
        "6 holds",
        "the route is forgotten while a person thinks",
        "StepState(StepStatus.SUCCEEDED, known.attempt, route=known.route)",
        "StepState(StepStatus.SUCCEEDED, known.attempt)",
        properties.the_outcome_is_the_oracles,
        BRANCHES,
    ),
    Mutant(
        "6 holds",
        "deaths are remembered while a person thinks",
        "StepState(StepStatus.HELD_AFTER, known.attempt, route=route)",
        "StepState(StepStatus.HELD_AFTER, known.attempt, losses=known.losses, route=route)",
        properties.a_held_step_waits_for_its_release,
    ),
    Mutant(
        "6 holds",
        "failures are remembered while a person thinks",
        "StepState(StepStatus.HELD_AFTER, known.attempt, route=route)",
        "StepState(StepStatus.HELD_AFTER, known.attempt, known.failures, route=route)",
        properties.a_held_step_waits_for_its_release,
    ),
]
MUTANTS = [*DEAD_PATH, *FENCING, *LOOPS, *ONCE, *FAILURE, *HOLDS]
