"""A package from outside adds a node type by its entry point alone."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

PLUGIN = Path(__file__).parents[1] / "plugin"

ASK = """
import json, sys
from pipelit.errors import StepError
from pipelit.models.node import map_config
from pipelit.nodes import describe, reference, registry
from tests.fakes import FakeContext, run

known = registry.get("weather_wind_chill")
scene = FakeContext({"trigger": {"payload": {"total": 30}}})
try:
    run(known, {"temperature": 20})
    failure = None
except StepError as error:
    failure = error.detail
print(json.dumps({
    "types": list(registry.load()),
    "described": describe.describe(known),
    "row": map_config("weather_wind_chill").__mapper__.polymorphic_identity,
    "page": reference.pages()["weather_wind_chill.md"],
    "output": run(known, known.example, scene).outputs["output"],
    "upgraded": known.upgrade({"temperature": 1, "speed": 10}, 1),
    "upgraded_template": known.upgrade({"temperature": 1, "speed": "{{ a.b }}"}, 1),
    "failure": failure,
}))
"""


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process says in which the plug-in is installed."""
    site = tmp_path_factory.mktemp("site")
    install(PLUGIN, site)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(PLUGIN.parents[1])])}
    asked = subprocess.run([sys.executable, "-c", ASK], check=True, env=environment, capture_output=True, timeout=60)
    found: dict[str, Any] = json.loads(asked.stdout)
    return found


def install(project: Path, site: Path) -> None:
    """Lay out what an installer would: the packages, and metadata with the entry points."""
    declared = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    for package in declared["tool"]["setuptools"]["packages"]:
        shutil.copytree(project / package, site / package, ignore=shutil.ignore_patterns("__pycache__"))
    name, version = declared["project"]["name"], declared["project"]["version"]
    metadata = site / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    lines = []
    for group, entries in declared["project"]["entry-points"].items():
        lines += [f"[{group}]", *(f"{entry} = {target}" for entry, target in entries.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_it_stands_in_the_registry_beside_the_built_in_types(answer: dict[str, Any]) -> None:
    assert {"weather_wind_chill", "template", "trigger_webhook"} <= set(answer["types"])
    assert answer["row"] == "weather_wind_chill"


def test_its_description_and_form_are_there(answer: dict[str, Any]) -> None:
    described = answer["described"]

    assert described["display_name"] == "Wind chill"
    assert described["outputs"][0]["type"] == "NUMBER"
    assert list(described["config_schema"]["properties"]) == ["temperature", "wind", "unit", "failure"]
    assert described["config_schema"]["required"] == ["temperature"]


def test_it_has_a_page(answer: dict[str, Any]) -> None:
    assert "how warm it feels" in answer["page"]


def test_it_runs_and_fails_like_any_other(answer: dict[str, Any]) -> None:
    assert answer["output"] == -13.0
    assert answer["failure"] == "temperature: the formula is made for at most 10 degrees, not 20."


def test_its_older_configs_are_brought_up_to_date(answer: dict[str, Any]) -> None:
    assert answer["upgraded"] == {"temperature": 1, "wind": 36}
    assert answer["upgraded_template"] == {"temperature": 1, "wind": "{{ (a.b) * 3.6 }}"}


@pytest.mark.parametrize("name", ["pyproject.toml", "pipelit_weather/wind_chill.py"])
def test_the_guide_shows_this_very_package(name: str) -> None:
    guide = (PLUGIN.parents[1] / "docs" / "node-sdk.md").read_text(encoding="utf-8")

    assert (PLUGIN / name).read_text(encoding="utf-8") in guide
