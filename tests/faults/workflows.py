"""Random workflows whose outcome is known beforehand: whatever happens on the way, it has to be that of a calm run."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

START = "start"
"""The trigger of each workflow."""

CHOICES = ("a", "b", "c")
"""What a trigger carries; switches decide by it."""

BLOB_BYTES = 4096
"""An output larger than this is large, in the installation that the suite makes."""

RETRIES = {"retry": {"attempts": 4, "initial": 0.2, "factor": 1.0, "jitter": 0.0}}
NEVER_TWICE = {"on_error": "default", "default": {"body": "given up"}, "safe_to_retry": False}


@dataclass(frozen=True, slots=True)
class Tail:
    """Where the next node is to be attached: an edge that starts here."""

    node: str
    route: str | None = None
    label: str = ""


@dataclass(frozen=True, slots=True)
class Limit:
    """How many executions of a workflow may be live at once, in all or for each choice, and what becomes of more."""

    most: int
    overlap: str
    is_by_choice: bool


@dataclass(slots=True)
class Drawing:
    """A workflow as `PUT …/graph/` takes it, which trigger starts it, and how it runs.

    `top` are the nodes that stand in no loop. The limit holds from the end of the calm run on.
    """

    name: str
    trigger: str
    placement: str = "chained"
    durability: str = "async"
    limit: Limit | None = None
    top: list[str] = field(default_factory=list)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    edges: list[dict[str, Any]] = field(default_factory=list)

    @property
    def about(self) -> dict[str, str]:
        """What `POST /workflows/` takes."""
        return {"name": self.name, "slug": self.name, "placement": self.placement, "durability": self.durability}

    @property
    def graph(self) -> dict[str, Any]:
        return {"nodes": self.nodes, "edges": self.edges}

    @property
    def given(self) -> str:
        """The trigger's output that holds what it was started with."""
        return "body" if self.trigger == "webhook" else "payload"

    @property
    def limits(self) -> dict[str, object]:
        """What `PATCH /workflows/…/` takes."""
        if self.limit is None:
            return {}
        key = f"{{{{ trigger.{self.given}.choice }}}}" if self.limit.is_by_choice else None
        return {"max_concurrent": self.limit.most, "overlap": self.limit.overlap, "serial_key": key}

    def following(self, node: str) -> frozenset[str]:
        """A node and all that come behind it."""
        found, pending = {node}, [node]
        while pending:
            source = pending.pop()
            targets = {edge["target_node_id"] for edge in self.edges if edge["source_node_id"] == source}
            pending += targets - found
            found |= targets
        return frozenset(found)


def draw(random: Random, name: str, url: str, *, child: str, depth: int) -> Drawing:
    """A random workflow of some five to twenty nodes, whose effects go to the server at `url`.

    `child` is the slug of one that it may call, `depth` how far branches, loops and the like may stand in one another.
    """
    drawing = Drawing(name, random.choice(("manual", "webhook")), *_manner(random), _limit(random))
    return _drawn(Pen(random, drawing, url, child), random.randint(2, 4), depth=depth)


def draw_child(random: Random, name: str, url: str) -> Drawing:
    """A small one that others call."""
    return _drawn(Pen(random, Drawing(name, "workflow", *_manner(random)), url, None), random.randint(1, 3), depth=1)


def draw_inert(random: Random, name: str, *, depth: int) -> Drawing:
    """One that changes nothing outside."""
    return _drawn(Pen(random, Drawing(name, "manual", *_manner(random)), None, None), random.randint(2, 4), depth=depth)


def _manner(random: Random) -> tuple[str, str]:
    """Where the steps run, and when their results are in SQL: for the outcome it must not matter."""
    return random.choice(("chained", "local")), random.choice(("async", "sync"))


def _limit(random: Random) -> Limit | None:
    """For every other workflow; most of them let the others wait, so that their outcome is known."""
    overlap = random.choice((None, None, None, None, "queue", "queue", "drop", "cancel_previous"))
    return None if overlap is None else Limit(random.randint(2, 4), overlap, random.random() < 0.5)


def _drawn(pen: "Pen", length: int, *, depth: int) -> Drawing:
    pen.trigger()
    # What some nodes hand on is what came in, and the trigger's ticket is another one in each run.
    tail = pen.chain(pen.template(Tail(START), depth), length, depth=depth)
    pen.node("end", "template", {"template": "{{ " + pen.last + " | tojson }}"}, [tail])
    return pen.drawing


@dataclass(slots=True)
class Pen:
    """Draws one node after the other; `loops` is how many loops are around the place it is at.

    Without a `url` there are no effects, and without a workflow to be `called` no calls.
    """

    random: Random
    drawing: Drawing
    url: str | None
    called: str | None
    loops: int = 0
    count: int = 0
    last: str = "trigger.payload.choice"

    @property
    def given(self) -> str:
        """Where the trigger keeps what it was started with."""
        return f"trigger.{self.drawing.given}"

    def trigger(self) -> None:
        self.last = f"{self.given}.choice"
        config = {"path": self.drawing.name} if self.drawing.trigger == "webhook" else {}
        self.node(START, f"trigger_{self.drawing.trigger}", config, [])

    def chain(self, tail: Tail, length: int, *, depth: int) -> Tail:
        """Some steps in a row; with depth left, some of them are whole constructions."""
        for _ in range(length):
            tail = self.random.choice(self._choices(depth))(tail, depth)
        return tail

    def _choices(self, depth: int) -> list[Callable[[Tail, int], Tail]]:
        effects = [self.effect, self.effect, self.flaky_effect, self.effect_of_one_try]
        plain = [self.template, *(effects if self.url else ())]
        if not self.loops:
            plain += [*([self.slow_effect] if self.url else ()), self.wait, self.held, self.question]
            plain += [] if self.called is None else [self.call, self.call]
        plain.append(self.large)
        return plain if depth == 0 else [*plain, *(3 * [self.branch, self.parallel, self.loop])]

    def template(self, tail: Tail, _depth: int) -> Tail:
        return self._step("template", {"template": "{{ " + self.last + " | tojson | length }}"}, tail)

    def large(self, tail: Tail, _depth: int) -> Tail:
        """An output that is kept as a blob, and somebody who reads it."""
        large = self._step("template", {"template": f"{{{{ 'x' * {2 * BLOB_BYTES} }}}}"}, tail)
        return self._step("template", {"template": "{{ " + large.node + ".output | length }}"}, large)

    def effect(self, tail: Tail, _depth: int) -> Tail:
        return self._call(tail, "", {})

    def slow_effect(self, tail: Tail, _depth: int) -> Tail:
        return self._call(tail, f"?ms={self.random.choice((200, 400, 900))}", {})

    def flaky_effect(self, tail: Tail, _depth: int) -> Tail:
        return self._call(tail, "?flaky=1", {"failure": RETRIES})

    def effect_of_one_try(self, tail: Tail, depth: int) -> Tail:
        """A call that nobody may repeat: it may be given up, and what follows does not look at it."""
        config = {"failure": NEVER_TWICE, "idempotency_key": False}
        tail = self._call(tail, f"?ms={self.random.choice((20, 200))}", config, prefix="once")
        return self._step("template", {"template": "tried"}, tail)

    def wait(self, tail: Tail, _depth: int) -> Tail:
        return self._step("wait", {"seconds": self.random.choice((0.5, 1, 2))}, tail)

    def held(self, tail: Tail, _depth: int) -> Tail:
        """A step that a person has to release."""
        return self._step("template", {"template": "released"}, tail, interrupt_before=True)

    def question(self, tail: Tail, _depth: int) -> Tail:
        """A question to a person, who says yes."""
        asked = self._step("human_confirmation", {"prompt": "Go on?"}, tail)
        self.last = f"{asked.node}.approved"
        return Tail(asked.node, "approved")

    def call(self, tail: Tail, _depth: int) -> Tail:
        """Another workflow, under a ticket that is derived from ours."""
        payload = {"ticket": self._ticket() + f"+{self.count + 1}", "choice": "{{ " + self.given + ".choice }}"}
        called = self._step("workflow", {"workflow_slug": self.called, "payload": payload}, tail)
        # Its other output is an id, which is another one in each run.
        return self._step("template", {"template": "{{ " + called.node + ".output }}"}, called)

    def branch(self, tail: Tail, depth: int) -> Tail:
        """A switch, one or two steps on each of its ways, and a merge of the one that was taken."""
        wanted = self.random.choice(CHOICES)
        rule = {"field": f"{self.given}.choice", "operator": "equals", "value": wanted, "route": "yes"}
        switch = self._step("switch", {"rules": [rule], "default": "no"}, tail)
        before = self.last
        tails = []
        for route in ("yes", "no"):
            self.last = before
            tails.append(self.chain(Tail(switch.node, route), self.random.randint(1, 2), depth=depth - 1))
        return self._step("merge", {}, *tails)

    def parallel(self, tail: Tail, depth: int) -> Tail:
        """Two or three ways at once, and a merge that waits for all."""
        fork = self.template(tail, depth)
        before = self.last
        tails = []
        for _ in range(self.random.randint(2, 3)):
            self.last = before
            tails.append(self.chain(fork, 1, depth=depth - 1))
        return self._step("merge", {}, *tails)

    def loop(self, tail: Tail, depth: int) -> Tail:
        items = [self.random.randint(1, 99) for _ in range(2 if self.loops else self.random.randint(2, 4))]
        loop = self._step("loop", {"items": items, "concurrency": self.random.randint(1, 3)}, tail)
        self.loops += 1
        self.last = "loop.item"
        inside = self.chain(Tail(loop.node, label="loop_body"), self.random.randint(1, 2), depth=depth - 1)
        self._edge(inside, loop.node, label="loop_return")
        self.loops -= 1
        self.last = f"{loop.node}.results"
        return loop

    def _call(self, tail: Tail, wishes: str, config: dict[str, Any], prefix: str = "effect") -> Tail:
        name = f"{prefix}{self.count + 1}"
        indices = ["loop." + "parent." * outward + "index" for outward in reversed(range(self.loops))]
        place = "-".join("{{ " + index + " }}" for index in indices) or "0"
        url = f"{self.url}/{self._ticket()}/{name}/{place}{wishes}"
        return self._step("http_request", {"method": "POST", "url": url, **config}, tail, name=name)

    def _ticket(self) -> str:
        return "{{ " + self.given + ".ticket }}"

    def _step(self, kind: str, config: dict[str, Any], *tails: Tail, name: str = "", **flags: bool) -> Tail:
        self.count += 1
        node = name or f"{kind}{self.count}"
        self.node(node, kind, config, list(tails), **flags)
        self.last = f"{node}.body" if kind == "http_request" else f"{node}.output"
        return Tail(node)

    def node(self, node: str, kind: str, config: dict[str, Any], tails: list[Tail], **flags: bool) -> None:
        self.drawing.nodes.append({"node_id": node, "component_type": kind, "config": config, **flags})
        if not self.loops:
            self.drawing.top.append(node)
        for tail in tails:
            self._edge(tail, node, label=tail.label)

    def _edge(self, tail: Tail, target: str, *, label: str) -> None:
        edge = {"source_node_id": tail.node, "target_node_id": target, "edge_label": label}
        if tail.route is not None:
            edge |= {"edge_type": "conditional", "condition_value": tail.route}
        self.drawing.edges.append(edge)
