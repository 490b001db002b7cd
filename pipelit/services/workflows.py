"""Workflows: finding, making, changing and copying them; never running them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, exists, func, or_, select
from sqlalchemy import update as update_rows
from sqlalchemy.orm import Session

from pipelit import clock
from pipelit.engine import compiler
from pipelit.errors import AlreadyExists, Forbidden, NotFound, Problem
from pipelit.extensions import db, transaction
from pipelit.models import UserProfile, Workflow, WorkflowEdge, WorkflowNode, WorkflowVersion
from pipelit.models.node import map_config
from pipelit.services import (
    admission,
    content,
    edge_rules,
    edges,
    graph,
    locks,
    names,
    nodes,
    preconditions,
    rights,
    trigger_keys,
)
from pipelit.services.drafts import EDGE_FIELDS, NODE_FIELDS, EdgeDraft, GraphDraft
from pipelit.services.editing import Edit, editing, refuse, require_visible
from pipelit.services.paging import Listing, Page, listing
from pipelit.services.preconditions import Precondition
from pipelit.services.rights import SLUG, Access

OWNERS_FIELDS = frozenset({"is_public", "is_default"})
"""What an editor may not change."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A workflow as a list shows it: how large it is, and what the one who asks is to it."""

    workflow: Workflow
    owner: str | None
    node_count: int
    edge_count: int
    access: Access


def all_of(
    by: UserProfile, page: Page, *, search: str | None = None, tag: str | None = None, is_active: bool | None = None
) -> Listing[Summary]:
    """The workflows that a user may look at, newest first."""
    query = Workflow.visible_to(by)
    if search is not None:
        query = query.where(_mentions(search))
    if tag is not None:
        query = query.where(_has_tag(tag))
    if is_active is not None:
        query = query.where(Workflow.is_active.is_(is_active))
    found = listing(query.order_by(Workflow.created_at.desc(), Workflow.id.desc()), page)
    return Listing(summaries(found.items, by), found.total)


def summaries(workflows: Sequence[Workflow], by: UserProfile | None) -> list[Summary]:
    """The workflows with their owners and sizes, in four queries for any number of them."""
    ids = [workflow.id for workflow in workflows]
    node_counts, edge_counts, access = nodes.count(ids), edges.count(ids), rights.accesses(workflows, by)
    owners = _owners(workflows)
    return [
        Summary(
            workflow=workflow,
            owner=owners.get(workflow.owner_id),
            node_count=node_counts.get(workflow.id, 0),
            edge_count=edge_counts.get(workflow.id, 0),
            access=access[workflow.id],
        )
        for workflow in workflows
    ]


def summary(workflow: Workflow, by: UserProfile | None) -> Summary:
    """One workflow with its owner and size."""
    return summaries([workflow], by)[0]


def get(slug: str, *, by: UserProfile) -> Summary:
    """A workflow with its nodes and edges at hand."""
    workflow = graph.read(slug, by=by)
    return Summary(
        workflow=workflow,
        owner=_owners([workflow]).get(workflow.owner_id),
        node_count=len(workflow.nodes),
        edge_count=len(workflow.edges),
        access=rights.access_of(workflow, by),
    )


def create(values: Mapping[str, Any], *, by: UserProfile | None) -> Workflow:
    """Make an empty workflow that belongs to `by`; without a slug it gets one made from its name."""
    with transaction() as session:
        return _insert(session, values, by)


def update(
    slug: str, changes: Mapping[str, Any], *, by: UserProfile, precondition: Precondition = preconditions.none
) -> Workflow:
    """Change what is mentioned of a workflow itself. Its watchers hear of it on the channel of its former slug."""
    with editing(slug, by, is_graph=False) as edit:
        workflow = edit.workflow
        precondition(workflow)
        changed = {name: value for name, value in changes.items() if getattr(workflow, name) != value}
        if OWNERS_FIELDS & changed.keys() and not rights.access_of(workflow, by).includes(Access.OWNER):
            raise Forbidden("Only the owner of a workflow and administrators decide who may see it.")
        _prepare(edit.session, changed, by, workflow)
        for name, value in changed.items():
            setattr(workflow, name, value)
        if changed.get("is_active"):
            edit.session.flush()
            trigger_keys.claim(edit, graph.loaded(workflow).nodes)
        edit.tell("workflow_updated", workflow)
    return workflow


def duplicate(slug: str, values: Mapping[str, Any], *, by: UserProfile) -> Workflow:
    """Copy a workflow for `by`. The copy is inactive; secrets are copied only by who may change the original."""
    with transaction() as session:
        original = graph.read(slug, by=by)
        about = {name: getattr(original, name) for name in content.TRAVELLING if name != "slug"}
        about |= {"name": f"{original.name} (copy)"[:255], "is_active": False} | dict(values)
        copy = _insert(session, about, by)
        has_secrets = rights.access_of(original, by).includes(Access.EDITOR)
        visible = rights.visible_ids([node.subworkflow_id for node in original.nodes if node.subworkflow_id], by)
        for node in original.nodes:
            session.add(_copied(node, copy, has_secrets=has_secrets, visible=visible))
        for edge in original.edges:
            session.add(WorkflowEdge(workflow_id=copy.id, **{name: getattr(edge, name) for name in EDGE_FIELDS}))
        return copy


def import_(draft: GraphDraft, *, by: UserProfile | None) -> Workflow:
    """Make a workflow from a document; its slug is the document's, with a number behind it if that is taken."""
    with transaction() as session:
        about = {name: draft.workflow[name] for name in content.TRAVELLING if name in draft.workflow}
        wanted = about.pop("slug", None) or names.slug_from(about.setdefault("name", "Imported workflow"))
        workflow = _insert(session, about | {"slug": _free_slug(session, wanted)}, by)
        graph.put(Edit(session, workflow, by), draft)
        return workflow


def problems(slug: str, *, by: UserProfile) -> list[Problem]:
    """Everything that keeps a workflow from running as drawn. Nothing is executed."""
    workflow = graph.read(slug, by=by)
    found = compiler.problems(workflow.nodes, workflow.edges)
    ends = {node.node_id: edges.end_of(node) for node in workflow.nodes}
    for edge in workflow.edges:
        said = edge_rules.complaints(EdgeDraft.of(edge), ends)
        found += [Problem("edge_invalid", message, edge.source_node_id, edge.id) for _, message in said]
    return found


def versions(slug: str, page: Page, *, by: UserProfile) -> Listing[WorkflowVersion]:
    """The kept versions of a workflow, newest first."""
    workflow = rights.find(slug, by)
    query = select(WorkflowVersion).where(WorkflowVersion.workflow_id == workflow.id)
    return listing(query.order_by(WorkflowVersion.number.desc()), page)


def version(slug: str, number: int, *, by: UserProfile) -> WorkflowVersion:
    """One version of a workflow, with its graph."""
    workflow = rights.find(slug, by)
    query = select(WorkflowVersion).where(WorkflowVersion.workflow_id == workflow.id, WorkflowVersion.number == number)
    found = db.session.scalar(query)
    if found is None:
        raise NotFound(f"The workflow '{slug}' has no version {number}.")
    return found


def _owners(workflows: Sequence[Workflow]) -> dict[int | None, str]:
    """The names of those who own these workflows, by their ids."""
    ids = {workflow.owner_id for workflow in workflows if workflow.owner_id is not None}
    query = select(UserProfile.id, UserProfile.username).where(UserProfile.id.in_(ids))
    return {row[0]: row[1] for row in db.session.execute(query)} if ids else {}


def _mentions(text: str) -> ColumnElement[bool]:
    columns = (Workflow.name, Workflow.slug, Workflow.description)
    return or_(*(column.icontains(text, autoescape=True) for column in columns))


def _has_tag(tag: str) -> ColumnElement[bool]:
    is_postgresql = db.session.get_bind().dialect.name == "postgresql"
    elements = func.json_array_elements_text(Workflow.tags) if is_postgresql else func.json_each(Workflow.tags)
    tags = elements.table_valued("value")
    return exists(select(1).select_from(tags).where(tags.c.value == tag))


def _insert(session: Session, values: Mapping[str, Any], by: UserProfile | None) -> Workflow:
    wanted = dict(values)
    if not wanted.get("slug"):
        wanted["slug"] = _free_slug(session, names.slug_from(wanted["name"]))
    _prepare(session, wanted, by, None)
    workflow = Workflow(owner_id=by.id if by is not None else None, **wanted)
    session.add(workflow)
    session.flush()
    return workflow


def _prepare(session: Session, values: Mapping[str, Any], by: UserProfile | None, workflow: Workflow | None) -> None:
    """Check what a workflow is about to get, and take the default away from the one that has it."""
    handler = values.get("error_handler_workflow_id")
    errors = require_visible({"error_handler_workflow_id": handler}, by)
    if handler is not None and workflow is not None and handler == workflow.id:
        errors["error_handler_workflow_id"] = ["A workflow cannot handle its own errors."]
    if wrong := admission.complaints(values.get("serial_key")):
        errors["serial_key"] = wrong
    if "slug" in values:
        errors |= _slug_errors(session, values["slug"])
    refuse(errors)
    if values.get("is_default"):
        _take_default(session, by)


def _slug_errors(session: Session, slug: str) -> dict[str, list[str]]:
    """Messages about the form of a slug. Raises `AlreadyExists` if it is taken."""
    if SLUG.fullmatch(slug) is None:
        return {"slug": ["Letters a-z, digits, and - or _ between them; at most 200 characters."]}
    if slug in names.RESERVED_SLUGS:
        return {"slug": [f"'{slug}' is a part of the API; choose another slug."]}
    locks.hold(session, locks.SLUGS)
    if session.scalar(select(Workflow.id).where(Workflow.slug == slug)) is not None:
        raise AlreadyExists(f"The slug '{slug}' is taken.")
    return {}


def _free_slug(session: Session, wanted: str) -> str:
    locks.hold(session, locks.SLUGS)
    taken = set(session.scalars(select(Workflow.slug).where(Workflow.slug.startswith(wanted, autoescape=True))))
    return names.first_free(wanted, taken | names.RESERVED_SLUGS)


def _take_default(session: Session, by: UserProfile | None) -> None:
    if by is not None and not by.is_admin:
        raise Forbidden("Only administrators choose the default workflow.")
    locks.hold(session, locks.DEFAULT_WORKFLOW)
    session.execute(update_rows(Workflow).where(Workflow.is_default).values(is_default=False, updated_at=clock.now()))


def _copied(node: WorkflowNode, copy: Workflow, *, has_secrets: bool, visible: set[int]) -> WorkflowNode:
    fields = {name: getattr(node, name) for name in NODE_FIELDS}
    if fields["subworkflow_id"] not in visible:
        fields["subworkflow_id"] = None
    config = map_config(node.component_type)(
        component_type=node.component_type,
        version=node.config.version,
        values=dict(node.config.values),
        secrets=node.config.secrets if has_secrets else None,
        trigger_key=node.config.trigger_key,
    )
    return WorkflowNode(workflow_id=copy.id, config=config, **fields)
