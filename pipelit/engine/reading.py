"""What a claimed step reads: the stored fields it needs, and what they mean to it as inputs and as names."""

from dataclasses import dataclass
from functools import cached_property

from pipelit.engine import blobs, expressions, links
from pipelit.engine.compiler import EXECUTION, LOOP, TRIGGER
from pipelit.engine.core.graph import Edge, Json, NodeId, On, Plan, PlanNode
from pipelit.engine.core.state import StepId, takes
from pipelit.engine.keys import TaskId, edit_field, item_field, output_field, total_field
from pipelit.engine.store import Claim, Meta
from pipelit.engine.timing import Stopwatch
from pipelit.errors import ExpressionError, ItemLost, OutputTooLarge
from pipelit.extensions import settings
from pipelit.nodes import registry
from pipelit.nodes.base import Input, StepNode


@dataclass(frozen=True)
class ClaimedStep:
    """A claimed attempt with all that it reads."""

    plan: Plan
    task: TaskId
    claim: Claim
    meta: Meta
    watch: Stopwatch

    @property
    def node(self) -> PlanNode:
        return self.plan.nodes[self.task.step.node]

    @cached_property
    def scope(self) -> dict[str, Json]:
        """What expressions see."""
        seen = {name: self._ports(field) for name, field in _read_by_name(self.plan, self.task.step).items()}
        scope: dict[str, Json] = {name: ports for name, ports in seen.items() if ports is not None}
        if self.task.step.scope:
            scope[LOOP] = self._loop()
        if EXECUTION in self.node.reads:
            scope[EXECUTION] = {"id": self.task.execution_id, "resume_urls": self._resume_urls()}
        return scope

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        """What the taken edges brought; into a loop's body that is the item."""
        step, state = self.task.step, self.claim.snapshot.state
        found = []
        for edge in self.plan.incoming[step.node]:
            if edge.on is On.BODY:
                item = self.scope[LOOP]
                found.append(
                    Input(edge.source, item["item"] if isinstance(item, dict) else None, "item", edge.target_port)
                )
                continue
            source = StepId(edge.source, step.scope)
            known = state.steps.get(source)
            if known is not None and known.is_settled and takes(known, edge):
                ports = self._ports(output_field(source)) or {}
                found.append(Input(edge.source, self._carried(edge, ports), edge.source_port, edge.target_port))
        return tuple(found)

    def _carried(self, edge: Edge, ports: dict[str, Json]) -> Json:
        """What an edge brings: the port it names, or else what its source's type says stands for all its ports."""
        if edge.source_port is not None:
            return ports.get(edge.source_port)
        return registry.get(self.plan.nodes[edge.source].type).value(ports)

    def resolve(self) -> dict[str, Json]:
        """The node's config with its templates rendered; what a person put in place of a setting is taken as it is."""
        edits = self._ports(edit_field(self.task.step)) or {}
        config = {name: value for name, value in self.node.config.items() if name not in edits}
        try:
            resolved = expressions.resolve(config, self.scope, field="")
        except ExpressionError as error:
            raise ExpressionError(f"{self.node.id}: {error.detail}") from error
        return {**resolved, **edits} if isinstance(resolved, dict) else edits

    def _loop(self) -> dict[str, Json]:
        """The innermost iteration as expressions see it: item, index, total, and the one around it as `parent`."""
        around: dict[str, Json] | None = None
        for depth, (loop, index) in enumerate(self.task.step.scope):
            owner_step = StepId(loop, self.task.step.scope[:depth])
            item, total = (self.claim.values[f] for f in (item_field(owner_step, index), total_field(owner_step)))
            if item is None:
                raise ItemLost(f"The item {index} of the loop '{loop}' is not stored any more.")
            around = {
                "item": self._read(item),
                "index": index,
                "total": int(total or 0),
                "parent": around,
            }
        return around or {}

    def _resume_urls(self) -> dict[str, Json]:
        """The addresses that resume the nodes which wait for the outside, in this step's iteration or outside of it."""
        around = [loop for loop, _ in self.task.step.scope]
        found: dict[str, Json] = {}
        for node in self.plan.nodes.values():
            node_type = registry.get(node.type)
            loops = _loops_around(self.plan, node.id)
            if (
                isinstance(node_type, StepNode)
                and node_type.resume_methods(node.config)
                and loops == around[: len(loops)]
            ):
                waits = StepId(node.id, self.task.step.scope[: len(loops)])
                found[node.id] = links.url(settings(), self.task.execution_id, waits)
        return found

    def _read(self, text: str) -> Json:
        """What the working state keeps, large values from SQL: an outage of it is waited for, and fails no step."""
        return blobs.patiently(lambda: blobs.read(text, self.task.execution_id))

    def _ports(self, field: str) -> dict[str, Json] | None:
        text = self.claim.values.get(field)
        try:
            ports = None if text is None else self._read(text)
        except OutputTooLarge as error:
            raise OutputTooLarge(f"{field.partition(':')[2]}: {error.detail}") from error
        return ports if isinstance(ports, dict) else None


def fields_read(plan: Plan, step: StepId) -> list[str]:
    """The data fields that running a step needs: what its config reads, what its edges bring, its loops' items."""
    edited = [edit_field(step)] if plan.nodes[step.node].interrupt_before else []
    return list(
        dict.fromkeys([*_read_by_name(plan, step).values(), *_brought(plan, step), *_loop_fields(step), *edited])
    )


def _read_by_name(plan: Plan, step: StepId) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in plan.nodes[step.node].reads:
        if name == TRIGGER:
            found[name] = output_field(StepId(plan.trigger))
        elif name in plan.nodes:
            found[name] = output_field(_seen_from(plan, name, step))
    return found


def _seen_from(plan: Plan, node: NodeId, step: StepId) -> StepId:
    """Where a node outside or beside `step` settled: in as many of the step's iterations as it stands in itself."""
    return StepId(node, step.scope[: len(_loops_around(plan, node))])


def _loops_around(plan: Plan, node: NodeId) -> list[NodeId]:
    """The loops that a node stands in, outermost first."""
    found: list[NodeId] = []
    around = plan.nodes[node].loop
    while around is not None:
        found.insert(0, around)
        around = plan.nodes[around].loop
    return found


def _edges_in(plan: Plan, step: StepId) -> list[Edge]:
    return [edge for edge in plan.incoming[step.node] if edge.on is not On.BODY]


def _brought(plan: Plan, step: StepId) -> list[str]:
    return [output_field(StepId(edge.source, step.scope)) for edge in _edges_in(plan, step)]


def _loop_fields(step: StepId) -> list[str]:
    found = []
    for depth, (loop, index) in enumerate(step.scope):
        owner_step = StepId(loop, step.scope[:depth])
        found += [item_field(owner_step, index), total_field(owner_step)]
    return found
