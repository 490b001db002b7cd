"""The reference pages of the node types, written from their declarations: `docs/nodes/*.md`."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelit.nodes import registry
from pipelit.nodes.base import NodeType, StepNode, TriggerNode
from pipelit.nodes.describe import JsonSchema, config_schema, documentation
from pipelit.nodes.ports import Category, Port

COMMON = "failure"
"""The setting that every step has; it is explained once, on the page of all."""

NOTE = "<!-- Made from the node types by `make generate`; changes here are lost. -->"


def pages() -> Mapping[str, str]:
    """Every page by its file name."""
    known = registry.load()
    found = {f"{name}.md": reference_page(node_type) for name, node_type in known.items()}
    return {"README.md": _overview(known.values()), **found}


def write_pages(directory: Path) -> None:
    """Write the pages into a directory, and remove pages of node types that are gone."""
    directory.mkdir(parents=True, exist_ok=True)
    current = pages()
    for stale in set(directory.glob("*.md")) - {directory / name for name in current}:
        stale.unlink()
    for name, text in current.items():
        (directory / name).write_text(text, encoding="utf-8")


def reference_page(node_type: NodeType[Any]) -> str:
    """What an author of workflows may want to know of a node type, in Markdown."""
    schema = config_schema(node_type)
    blocks = [
        f"# {node_type.title}",
        NOTE,
        f"`{node_type.type}`, {_contract(node_type)}.",
        documentation(node_type),
        *_ports("In", node_type.inputs),
        *_ports("Out", node_type.outputs),
        *_routes(node_type),
        *_settings(schema),
        "## Example",
        _code(_example(node_type)),
    ]
    return "\n\n".join(blocks) + "\n"


def _contract(node_type: NodeType[Any]) -> str:
    match node_type:
        case TriggerNode(kind=kind):
            return f"a trigger for events of the kind `{kind}`"
        case StepNode(is_tool=True):
            return f"a step of the category {node_type.category}, and a tool for agents"
        case StepNode():
            return f"a step of the category {node_type.category}"
        case _:
            return f"a provider of the category {node_type.category}"


def _ports(heading: str, ports: Sequence[Port]) -> Iterator[str]:
    if ports:
        rows = [(f"`{port.name}`", port.type.value, port.description) for port in ports]
        yield f"## {heading}\n\n{_table(('port', 'type', ''), rows)}"


def _routes(node_type: NodeType[Any]) -> Iterator[str]:
    routes = node_type.routes(node_type.example)
    if routes:
        named = ", ".join(f"`{name}`" for name in routes)
        yield f"## Routes\n\nConditional edges name them. In the example below: {named}."


def _settings(schema: JsonSchema) -> Iterator[str]:
    definitions: dict[str, JsonSchema] = schema.get("$defs", {})
    own = {name: shown for name, shown in schema.get("properties", {}).items() if name != COMMON}
    if own:
        yield f"## Settings\n\n{_setting_rows(own, schema.get('required', ()))}"
    for name in _named_in(own, definitions):
        yield f"### {name}\n\n{_setting_rows(definitions[name]['properties'], definitions[name].get('required', ()))}"
    if COMMON in schema.get("properties", {}):
        yield "Every step also has [`failure`](README.md#when-a-step-fails): retries, and what follows them."


def _named_in(own: Mapping[str, JsonSchema], definitions: Mapping[str, JsonSchema]) -> list[str]:
    text = json.dumps(own)
    return [name for name in definitions if f'"#/$defs/{name}"' in text]


def _setting_rows(properties: Mapping[str, JsonSchema], required: Sequence[str]) -> str:
    ordered = sorted(properties.items(), key=lambda named: named[1].get("x-order", 0))
    rows = [(f"`{name}`", _type(shown), _default(name, shown, required), _help(shown)) for name, shown in ordered]
    return _table(("setting", "type", "default", ""), rows)


def _default(name: str, shown: JsonSchema, required: Sequence[str]) -> str:
    if name in required:
        return "required"
    default = shown.get("default")
    if isinstance(default, dict) and default:
        return ""
    return "" if default is None else f"`{json.dumps(default, ensure_ascii=False)}`"


def _help(shown: JsonSchema) -> str:
    sentences = [f"{shown['title']}."] if "title" in shown else []
    if "description" in shown:
        sentences.append(shown["description"])
    if shown.get("x-secret"):
        sentences.append("Kept encrypted, never shown again.")
    if shown.get("x-expression"):
        sentences.append("Takes expressions.")
    return " ".join(sentences)


def _type(shown: JsonSchema) -> str:
    """The JSON type of a setting, in a few words."""
    alternatives = [each for each in shown.get("anyOf", ()) if each.get("type") != "null" and "{[{%]" not in str(each)]
    if alternatives:
        return " or ".join(_type(each) for each in alternatives)
    if "$ref" in shown:
        return _link(shown["$ref"])
    if "enum" in shown:
        # Long lists are readable only with the text broken between their members.
        return ", ".join(f"`{value}`" for value in shown["enum"] if value is not None)
    kind = shown.get("type")
    if kind == "array":
        return f"list of {_type(shown.get('items', {}))}"
    if kind in ("integer", "number"):
        return f"{kind}{_range(shown)}"
    return {"string": "text", "object": "object", "boolean": "boolean", None: "any"}.get(kind, str(kind))


def _link(reference: str) -> str:
    name = reference.rpartition("/")[2]
    return f"[{name}](#{name.lower()})"


def _range(shown: JsonSchema) -> str:
    least, most = shown.get("minimum"), shown.get("maximum")
    return "" if least is None or most is None else f", {least:g} to {most:g}"


def _example(node_type: NodeType[Any]) -> str:
    node = {"node_id": node_type.type.removeprefix("trigger_"), "component_type": node_type.type}
    return json.dumps({**node, "config": dict(node_type.example)}, indent=2, ensure_ascii=False)


def _code(text: str) -> str:
    return f"```json\n{text}\n```"


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _overview(known: Any) -> str:
    blocks = ["# Node types", NOTE, "Every type there is, and what all of them have in common."]
    for category in Category:
        members = [node_type for node_type in known if node_type.category is category]
        rows = [(f"[{each.title}]({each.type}.md)", f"`{each.type}`", _first_sentence(each)) for each in members]
        if rows:
            blocks.append(f"## {category.value.capitalize()}\n\n{_table(('', 'type', ''), rows)}")
    return "\n\n".join([*blocks, *_failure(known)]) + "\n"


def _first_sentence(node_type: NodeType[Any]) -> str:
    text = " ".join(documentation(node_type).split("\n\n")[0].split())
    return text.split(". ")[0].rstrip(":.") + "."


def _failure(known: Any) -> Iterator[str]:
    """The settings that all steps share."""
    step = next((node_type for node_type in known if isinstance(node_type, StepNode)), None)
    if step is None:
        return
    definitions = config_schema(step)["$defs"]
    yield "## When a step fails"
    yield (
        "The setting `failure` of every step. An error that may pass (a timeout, a server that is down) is tried "
        "again, and `on_error` says what follows the last try."
    )
    yield (
        "With `on_error: default`, an object whose names are all output ports of the type becomes these outputs: "
        '`{"body": null, "status": 0}` for an HTTP request. Any other value is the port `output`. A type without that '
        "port takes nothing else, and `validate` names its ports."
    )
    for name in ("FailurePolicy", "RetryPolicy"):
        yield f"### {name}\n\n{_setting_rows(definitions[name]['properties'], ())}"


if __name__ == "__main__":
    write_pages(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/nodes"))
