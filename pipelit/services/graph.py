"""A workflow's whole graph at once: written in one transaction, read as a document that can travel."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import selectinload

from pipelit import clock
from pipelit.errors import Invalid
from pipelit.extensions import db
from pipelit.models import UserProfile, Workflow, WorkflowEdge, WorkflowNode
from pipelit.nodes import registry
from pipelit.nodes.ports import Json
from pipelit.services import (
    admission,
    content,
    edge_rules,
    edges,
    names,
    node_config,
    preconditions,
    rights,
    trigger_keys,
)
from pipelit.services.drafts import NODE_FIELDS, EdgeDraft, GraphDraft, NodeDraft
from pipelit.services.edge_rules import End
from pipelit.services.editing import Edit, editing, refuse, require_visible
from pipelit.services.node_config import StoredConfig
from pipelit.services.preconditions import Precondition

Errors = dict[str, list[str]]


def export(slug: str, *, by: UserProfile | None = None) -> dict[str, Json]:
    """A workflow as a document, without ids, times and secrets; `replace` and `import_` take it back."""
    return content.document(read(slug, by=by))


def read(slug: str, *, by: UserProfile | None = None) -> Workflow:
    """A workflow with all its nodes and edges, in a handful of queries however large it is."""
    return loaded(rights.find(slug, by))


def loaded(workflow: Workflow) -> Workflow:
    """The same workflow with its nodes and edges at hand."""
    query = select(Workflow).where(Workflow.id == workflow.id)
    options = (selectinload(Workflow.nodes), selectinload(Workflow.edges))
    return db.session.scalars(query.options(*options).execution_options(populate_existing=True)).one()


def replace(
    slug: str, draft: GraphDraft, *, by: UserProfile, precondition: Precondition = preconditions.none
) -> Workflow:
    """Make the graph exactly this. Nodes that stay keep their rows and secrets, edges that say the same keep theirs.

    Raises `Invalid` with every problem by its path (`nodes.2.config.url`); then nothing has changed.
    """
    with editing(slug, by) as edit:
        precondition(edit.workflow)
        _refuse_other_document(edit.workflow, draft)
        if wrong := admission.complaints(draft.workflow.get("serial_key")):
            refuse({"workflow.serial_key": wrong})
        for name in content.TRAVELLING:
            if name in draft.workflow:
                setattr(edit.workflow, name, draft.workflow[name])
        put(edit, draft)
        edit.tell("workflow_updated", edit.workflow)
    return loaded(edit.workflow)


def put(edit: Edit, draft: GraphDraft) -> None:
    """Bring the rows of a workflow that is being edited to what the draft says."""
    kept = {node.node_id: node for node in loaded(edit.workflow).nodes}
    node_ids = _node_ids(draft)
    checked = _checked(edit, draft, node_ids, kept)
    for node_id in kept.keys() - set(node_ids):
        edit.session.delete(kept[node_id])
    nodes = []
    for node_id, node, stored in zip(node_ids, draft.nodes, checked, strict=True):
        nodes.append(_write_node(edit, kept.get(node_id), node_id, node, stored))
    _write_edges(edit, draft)
    edit.session.flush()
    trigger_keys.claim(edit, nodes)


def _refuse_other_document(workflow: Workflow, draft: GraphDraft) -> None:
    slug = draft.workflow.get("slug", workflow.slug)
    if slug != workflow.slug:
        message = f"This document is of '{slug}'. Leave `workflow` out of it to take only its graph."
        raise Invalid(message, {"workflow.slug": [message]})


def _node_ids(draft: GraphDraft) -> list[str]:
    """The names of the draft's nodes in their order, made where none is given."""
    taken = {node.node_id for node in draft.nodes if node.node_id is not None}
    found = []
    for node in draft.nodes:
        node_id = node.node_id or names.node_id_for(node.component_type, taken)
        taken.add(node_id)
        found.append(node_id)
    return found


def _checked(
    edit: Edit, draft: GraphDraft, node_ids: list[str], kept: Mapping[str, WorkflowNode]
) -> list[StoredConfig]:
    """The configurations as they are to be kept, in the order of the nodes. Raises `Invalid` with every problem."""
    errors: Errors = {}
    stored = [_stored(f"nodes.{at}", node, kept.get(node_ids[at]), errors) for at, node in enumerate(draft.nodes)]
    counts = Counter(node_ids)
    for at, node_id in enumerate(node_ids):
        if counts[node_id] > 1:
            errors[f"nodes.{at}.node_id"] = [f"'{node_id}' is the name of {counts[node_id]} nodes."]
    errors |= _reference_errors(edit, draft, kept, node_ids)
    types = [registry.load().get(node.component_type) for node in draft.nodes]
    ends = {
        node_id: End(node_id, node_type, config.values if config is not None else node.config)
        for node_id, node_type, config, node in zip(node_ids, types, stored, draft.nodes, strict=True)
    }
    for path, message in _edge_errors(draft.edges, ends):
        errors.setdefault(path, []).append(message)
    refuse(errors)
    return [config for config in stored if config is not None]


def _stored(path: str, node: NodeDraft, kept: WorkflowNode | None, errors: Errors) -> StoredConfig | None:
    is_same_type = kept is not None and kept.component_type == node.component_type
    secrets = node_config.secrets_of(kept.config) if kept is not None and is_same_type else {}
    try:
        node_type = names.node_type(node.component_type)
        return node_config.check(node_type, node.config, secrets, may_lack_secrets=True)
    except Invalid as invalid:
        errors.update({f"{path}.{field}": messages for field, messages in invalid.errors.items()})
        return None


def _reference_errors(edit: Edit, draft: GraphDraft, kept: Mapping[str, WorkflowNode], node_ids: list[str]) -> Errors:
    """References to what is not there; one that a node already has may stay, whoever writes the graph."""
    new: dict[str, int | None] = {}
    errors: Errors = {}
    for at, node in enumerate(draft.nodes):
        row = kept.get(node_ids[at])
        if row is None or row.subworkflow_id != node.subworkflow_id:
            new[f"nodes.{at}.subworkflow_id"] = node.subworkflow_id
        if node.code_block_id is not None:
            errors[f"nodes.{at}.code_block_id"] = [f"There is no code block with the id {node.code_block_id}."]
    return errors | require_visible(new, edit.by)


def _edge_errors(drafts: Sequence[EdgeDraft], ends: Mapping[str, End]) -> Iterator[tuple[str, str]]:
    for at, edge in enumerate(drafts):
        for field, message in edge_rules.complaints(edge, ends):
            yield f"edges.{at}.{field}", message
    for at in edge_rules.repeated(drafts):
        yield f"edges.{at}", "Says the same as an earlier edge."
    for at, message in edge_rules.circles(drafts):
        yield f"edges.{at}.target_node_id", message


def _write_node(
    edit: Edit, row: WorkflowNode | None, node_id: str, draft: NodeDraft, stored: StoredConfig
) -> WorkflowNode:
    node_type = names.node_type(draft.component_type)
    if row is None:
        row = WorkflowNode(workflow_id=edit.workflow.id)
        edit.session.add(row)
    if row.component_type != draft.component_type:
        row.config = node_config.row_for(node_type, stored)
    else:
        stored.put_on(row.config, node_type.version)
    for name in NODE_FIELDS:
        setattr(row, name, getattr(draft, name))
    row.node_id = node_id
    if edit.session.is_modified(row) or edit.session.is_modified(row.config):
        row.updated_at = clock.now()
    return row


def _write_edges(edit: Edit, draft: GraphDraft) -> None:
    kept = {EdgeDraft.of(edge).identity: edge for edge in edit.workflow.edges}
    for wanted in draft.edges:
        row = kept.pop(wanted.identity, None)
        if row is None:
            edit.session.add(WorkflowEdge(workflow_id=edit.workflow.id, **edges.columns(wanted)))
            continue
        for name, value in edges.columns(wanted).items():
            setattr(row, name, value)
        if edit.session.is_modified(row):
            row.updated_at = clock.now()
    for left in kept.values():
        edit.session.delete(left)
