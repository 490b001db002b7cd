"""Accounts from the command line."""

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
