"""The wheel, in an environment of its own, for somebody who has no checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.support.product import Product

pytestmark = pytest.mark.product

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of an environment with the wheel in it, and Pipelit's dependencies beside it."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    subprocess.run(["git", "clone", "--quiet", ROOT, source], check=True)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")

    venv.create(folder / "env")
    commands = folder / "env" / "bin"
    subprocess.run([uv(), "pip", "install", "--quiet", "--no-deps", "--python", commands / "python", wheel], check=True)
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return commands


def uv() -> str:
    """The installer that made this environment says in a file where it is."""
    said = Path(sys.prefix) / ".uv"
    found = str(ROOT / said.read_text().strip()) if said.is_file() else shutil.which("uv")
    assert found is not None
    return found


def test_it_starts_from_the_users_data_directory(installed: Path, new_product: Product, tmp_path: Path):
    new_product.command = (str(installed / "pipelit"), "up")
    (tmp_path / "data").mkdir()
    new_product.home = tmp_path / "data" / "pipelit"
    new_product.environ = {"PIPELIT_HOME": "", "XDG_DATA_HOME": str(tmp_path / "data"), "PYTHONPATH": ""}

    new_product.start()
    new_product.set_up()

    assert (new_product.home / "pipelit.db").is_file()
    samples = new_product.call("GET", "/api/v1/workflows/").body["items"]
    assert [sample["is_public"] for sample in samples] == [True]
    where = "import pipelit, migrations, celeryconfig; print(pipelit.__file__)"
    found = subprocess.run(
        [installed / "python", "-I", "-c", where], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert found.stdout.startswith(str(installed.parent))


def test_its_commands_work_without_a_checkout(installed: Path, tmp_path: Path):
    environ = {**os.environ, "PIPELIT_HOME": str(tmp_path / "home"), "PYTHONPATH": ""}

    for command in (["--version"], ["migrate"], ["nodes", "check"]):
        done = subprocess.run(
            [installed / "pipelit", *command], env=environ, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
