"""Accounts from the command line."""

import pytest

from pipelit.models import UserProfile
from tests.commands.conftest import Command


def test_an_administrator_can_be_made_and_sign_in(pipelit: Command, client):
    made = pipelit("user", "create", "ada", "--role", "admin", PIPELIT_PASSWORD="a long password")

    assert made.returncode == 0, made.stderr
    answer = client.post("/api/v1/auth/token/", json={"username": "ada", "password": "a long password"})
    me = client.get("/api/v1/auth/me/", headers={"Authorization": f"Bearer {answer.json['key']}"})
    assert (me.json["username"], me.json["role"]) == ("ada", "admin")


def test_a_name_that_is_taken_is_refused(pipelit: Command):
    pipelit("user", "create", "ada", PIPELIT_PASSWORD="a long password")

    refused = pipelit("user", "create", "ada", PIPELIT_PASSWORD="another password")

    assert refused.returncode == 2
    assert refused.stderr.startswith("pipelit: ")
    assert UserProfile.__name__ not in refused.stderr


@pytest.mark.parametrize(
    ("username", "password", "named"),
    [("  ", "a long password", "username"), ("a b", "a long password", "username"), ("ada", "short", "password")],
)
def test_what_no_account_may_have_is_refused_by_field(pipelit: Command, username: str, password: str, named: str):
    refused = pipelit("user", "create", username, PIPELIT_PASSWORD=password)

    assert refused.returncode == 2
    assert refused.stderr.startswith(f"pipelit: {named}: ")
    assert password not in refused.stderr
