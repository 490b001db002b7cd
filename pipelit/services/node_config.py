"""The configuration of a node on its way in and out: checked by its type, its secrets kept apart and masked."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelit.errors import Invalid
from pipelit.models import ComponentConfig
from pipelit.models.node import map_config
from pipelit.nodes import registry
from pipelit.nodes.base import NodeType, TriggerNode
from pipelit.nodes.ports import Json
from pipelit.nodes.settings import MASK, Secret
from pipelit.services import sizes

MOST_BYTES = 256 * 1024
MOST_SECRET_BYTES = 12_000

STAND_IN = MASK * 8
"""Checked in the place of a secret that is still to come; never stored."""


@dataclass(frozen=True, slots=True)
class StoredConfig:
    """What is kept of a checked configuration; `trigger_key` is what outside events find a trigger by."""

    values: dict[str, Json]
    secrets: dict[str, Json]
    trigger_key: str | None

    def put_on(self, row: ComponentConfig, version: int) -> None:
        """Write it to a row."""
        row.version = version
        row.values = self.values
        row.secrets = json.dumps(self.secrets) if self.secrets else None
        row.trigger_key = self.trigger_key


def check(
    node_type: NodeType[Any],
    wanted: Mapping[str, Json],
    stored: Mapping[str, Json] | None = None,
    *,
    may_lack_secrets: bool = False,
) -> StoredConfig:
    """What to keep of a wanted configuration. Raises `Invalid` with `config.…` paths.

    A secret that is not mentioned, or sent back masked, stays the `stored` one; null removes it. `may_lack_secrets`
    lets a copied or imported node wait for the secrets that did not travel with it.
    """
    _refuse_unreasonable(wanted)
    secrets = _secrets(node_type, wanted, stored or {})
    values = {name: value for name, value in wanted.items() if name not in node_type.secrets}
    try:
        node_type.check({**values, **secrets})
    except Invalid:
        missing = dict.fromkeys(set(node_type.secrets) - secrets.keys(), STAND_IN)
        if not (may_lack_secrets and missing):
            raise
        node_type.check({**values, **secrets, **missing})
    if len(json.dumps(secrets)) > MOST_SECRET_BYTES:
        raise _invalid("config", "Its secrets are too long.")
    key = node_type.key(values) if isinstance(node_type, TriggerNode) else None
    return StoredConfig(values, secrets, key)


def row_for(node_type: NodeType[Any], stored: StoredConfig) -> ComponentConfig:
    """A new row, of the class that belongs to the node type."""
    row = map_config(node_type.type)()
    stored.put_on(row, node_type.version)
    return row


def secrets_of(row: ComponentConfig) -> dict[str, Json]:
    """A row's secrets as they are. Not for answers."""
    found: dict[str, Json] = json.loads(row.secrets) if row.secrets else {}
    return found


def awaits_secrets(row: ComponentConfig) -> bool:
    """Whether the row was stored without secrets that its node type asks for."""
    try:
        registry.load()[row.component_type].check(registry.current_values(row) | secrets_of(row))
    except Invalid:
        return True
    return False


def shown(row: ComponentConfig) -> dict[str, Json]:
    """The configuration as the API answers it: secrets as dots and their last four characters."""
    return registry.current_values(row) | {name: Secret(value).masked() for name, value in secrets_of(row).items()}


def merged(row: ComponentConfig, changes: Mapping[str, Json]) -> dict[str, Json]:
    """The row's values with changes made to them: a setting is replaced whole, null takes it away."""
    secrets = registry.load()[row.component_type].secrets
    known = registry.current_values(row) | dict(changes)
    return {name: value for name, value in known.items() if value is not None or name in secrets}


def _secrets(node_type: NodeType[Any], wanted: Mapping[str, Json], stored: Mapping[str, Json]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for name in node_type.secrets:
        value = wanted.get(name, stored.get(name))
        if isinstance(value, str) and value.startswith(MASK):
            value = stored.get(name)
            if value is None or Secret(value).masked() != wanted[name]:
                raise _invalid(f"config.{name}", "This is the masked form of another secret; send the secret itself.")
        if value is not None:
            found[name] = value
    return found


def _refuse_unreasonable(wanted: Mapping[str, Json]) -> None:
    reason = sizes.objection(dict(wanted), most_bytes=MOST_BYTES)
    if reason is not None:
        raise _invalid("config", reason)


def _invalid(path: str, message: str) -> Invalid:
    return Invalid(message, {path: [message]})
