"""The database from the command line: its revision and the keys of its secrets."""

import re
import sqlite3

from cryptography.fernet import Fernet
from flask import Flask
from sqlalchemy import make_url, text

from pipelit.extensions import db, transaction
from pipelit.launcher import stored
from pipelit.models import LLMProviderCredential
from tests.commands.conftest import Command
from tests.support.application import KEYS


def store_a_credential(app: Flask) -> None:
    with app.app_context(), transaction() as session:
        session.add(LLMProviderCredential(name="model", api_key="sk-secret"))


def ciphertext(app: Flask) -> str:
    with app.app_context():
        return str(db.session.scalar(text("SELECT api_key FROM llm_credentials")))


def test_migrating_twice_changes_nothing_the_second_time(pipelit: Command, empty_database_url: str):
    for _ in range(2):
        done = pipelit("migrate", DATABASE_URL=empty_database_url)

        assert done.returncode == 0, done.stderr
        assert done.stdout == "The database is up to date.\n"


def test_a_key_is_replaced_in_three_steps(pipelit: Command, app: Flask):
    store_a_credential(app)
    before, old, new = ciphertext(app), KEYS["FIELD_ENCRYPTION_KEY"], Fernet.generate_key().decode()

    rotated = pipelit("rotate-keys", FIELD_ENCRYPTION_KEY=f"{new},{old}")

    assert rotated.returncode == 0, rotated.stderr
    assert ciphertext(app) != before
    assert Fernet(new).decrypt(ciphertext(app)) == b"sk-secret"


def test_without_the_key_of_what_is_stored_nothing_starts(pipelit: Command, app: Flask, free_port: int):
    store_a_credential(app)

    refused = pipelit("up", FIELD_ENCRYPTION_KEY=Fernet.generate_key().decode(), PIPELIT_PORT=str(free_port))

    assert refused.returncode == 2
    assert refused.stderr == (
        "pipelit: FIELD_ENCRYPTION_KEY cannot read the credentials stored in this database: "
        "add the key they were stored with, after a comma.\n"
    )


def test_with_the_old_key_behind_the_new_one_everything_can_be_read(app: Flask):
    store_a_credential(app)

    stored.check_encryption_keys(app.extensions["pipelit.settings"])


def test_a_file_from_before_is_made_one_that_can_shrink(pipelit: Command, empty_database_url: str, database_kind: str):
    if database_kind == "sqlite":
        with sqlite3.connect(str(make_url(empty_database_url).database)) as before:
            before.execute("CREATE TABLE heap (content)")
            before.execute("INSERT INTO heap VALUES (zeroblob(3000000))")
            before.execute("DROP TABLE heap")
        before.close()
    assert pipelit("migrate", DATABASE_URL=empty_database_url).returncode == 0

    done = pipelit("vacuum", DATABASE_URL=empty_database_url)

    assert done.returncode == 0, done.stderr
    if database_kind == "postgresql":
        assert "not a SQLite file" in done.stdout
        return
    larger, smaller = (
        int(number.replace(",", "")) for number in re.findall(r"had ([\d,]+) .* has ([\d,]+)", done.stdout)[0]
    )
    assert larger > 3_000_000 > smaller
    with sqlite3.connect(str(make_url(empty_database_url).database)) as after:
        assert after.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    after.close()
