"""All node types there are: the built-in ones and those of installed packages, through the same door."""

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib.metadata import entry_points
from types import MappingProxyType, ModuleType
from typing import Any

from pipelit.errors import NotFound
from pipelit.models.node import ComponentConfig, map_config
from pipelit.nodes.base import NodeType, TriggerNode
from pipelit.nodes.ports import Json

GROUP = "pipelit.nodes"
"""The entry-point group. Each entry names a module or package; every concrete node type defined in it is added."""


class DuplicateNodeType(Exception):
    """Two classes state the same `type`."""


@lru_cache(maxsize=1)
def load() -> Mapping[str, NodeType[Any]]:
    """Every node type by its `type`, each with its ORM class mapped. Must be called before the first query."""
    entries = sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    found = collect(entry.load() for entry in entries)
    for name in found:
        map_config(name)
    return found


def collect(modules: Iterable[ModuleType]) -> Mapping[str, NodeType[Any]]:
    """The node types that modules and packages define. Raises `DuplicateNodeType` where two have one name."""
    found: dict[str, NodeType[Any]] = {}
    for module in modules:
        for node_type in types_in(module):
            known = found.setdefault(node_type.type, node_type())
            if not isinstance(known, node_type):
                raise DuplicateNodeType(f"{node_type.type} is stated by {type(known)} and {node_type}")
    return MappingProxyType(dict(sorted(found.items())))


def get(name: str) -> NodeType[Any]:
    """The node type called `name`. Raises `NotFound`, naming the closest there is."""
    try:
        return load()[name]
    except KeyError:
        closest = difflib.get_close_matches(name, load(), 1)
        hint = f" Did you mean '{closest[0]}'?" if closest else ""
        raise NotFound(f"There is no node type called '{name}'.{hint}") from None


def triggers(kind: str) -> tuple[TriggerNode[Any], ...]:
    """The trigger types that events of `kind` may start."""
    return tuple(known for known in load().values() if isinstance(known, TriggerNode) and known.kind == kind)


def current_values(row: ComponentConfig) -> dict[str, Json]:
    """A stored config as the present version of its node type would store it; as it is, if there is no such type."""
    node_type = load().get(row.component_type)
    if node_type is None or row.version >= node_type.version:
        return dict(row.values)
    return node_type.upgrade(dict(row.values), row.version)


def types_in(module: ModuleType) -> Iterator[type[NodeType[Any]]]:
    """The concrete node types defined in a module, or in any module of a package."""
    for member in _modules(module):
        for value in vars(member).values():
            if _is_node_type(value) and value.__module__ == member.__name__:
                yield value


def _modules(module: ModuleType) -> Iterator[ModuleType]:
    yield module
    for found in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{module.__name__}."):
        yield importlib.import_module(found.name)


def _is_node_type(value: object) -> bool:
    return (
        isinstance(value, type)
        and issubclass(value, NodeType)
        and not inspect.isabstract(value)
        and hasattr(value, "type")
    )
