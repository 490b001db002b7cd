"""Where a process learns what it was told, and the secrets it makes itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelit.config import Settings
from pipelit.errors import SettingsError
from pipelit.launcher.environment import ensure_secrets, load_settings, prepare_home, read_environment


def test_a_variable_of_the_process_wins_over_the_file_beside_it(tmp_path):
    (tmp_path / ".env").write_text("PIPELIT_PORT=9000\nPIPELIT_HOST=0.0.0.0\nSECRET_KEY=\n")

    environ = read_environment({"PIPELIT_PORT": "9001", "PIPELIT_WORKERS": ""}, tmp_path)

    assert environ == {"PIPELIT_PORT": "9001", "PIPELIT_HOST": "0.0.0.0"}


def test_secrets_are_made_once_and_can_be_read_by_their_owner_only(tmp_path):
    first = ensure_secrets(tmp_path)

    assert ensure_secrets(tmp_path) == first
    assert (tmp_path / "secrets.env").stat().st_mode & 0o777 == 0o600
    assert Settings.load({**first, "PIPELIT_HOME": str(tmp_path)}).field_encryption_keys


def test_a_secret_that_is_already_there_stays_when_another_is_added(tmp_path):
    (tmp_path / "secrets.env").write_text("SECRET_KEY=chosen-by-the-operator\n")

    made = ensure_secrets(tmp_path)

    assert made["SECRET_KEY"] == "chosen-by-the-operator"
    assert made["FIELD_ENCRYPTION_KEY"]


def test_processes_that_start_at_the_same_moment_agree_on_the_secrets(tmp_path):
    program = f"from pipelit.launcher.environment import *; print(ensure_secrets(Path({str(tmp_path)!r})))"
    started = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for _ in range(4)]

    said = {process.communicate()[0] for process in started}

    assert len(said) == 1


def test_given_secrets_leave_no_file_behind(tmp_path):
    key = "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE="

    settings = load_settings(
        {"PIPELIT_HOME": str(tmp_path / "home"), "FIELD_ENCRYPTION_KEY": key, "SECRET_KEY": "given-by-the-operator"}
    )

    assert settings.secret_key == "given-by-the-operator"
    assert not (tmp_path / "home").exists()


def test_the_home_belongs_to_its_user_alone(tmp_path):
    settings = Settings.load({"PIPELIT_HOME": str(tmp_path / "a" / "home")})

    prepare_home(settings)

    assert settings.home.stat().st_mode & 0o077 == 0


def test_a_home_that_cannot_be_made_is_refused_with_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    settings = Settings.load({"PIPELIT_HOME": str(tmp_path / "file" / "home")})

    with pytest.raises(SettingsError, match=r"^PIPELIT_HOME \(.*\) cannot be used: .*; name a folder you may write\.$"):
        prepare_home(settings)
    with pytest.raises(SettingsError, match="cannot be used"):
        ensure_secrets(Path(settings.home))
