"""Changing the encryption key without losing a secret."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from cryptography.fernet import Fernet
from flask import Flask
from sqlalchemy import select, text

from pipelit.errors import CredentialError
from pipelit.extensions import db, transaction
from pipelit.models import ComponentConfig, LLMProviderCredential, UserProfile
from pipelit.models.types import cipher
from pipelit.services import credentials, idempotency
from tests.support.application import KEYS

OLD, NEW = KEYS["FIELD_ENCRYPTION_KEY"], Fernet.generate_key().decode()


@pytest.fixture(autouse=True)
def secrets(app: Flask) -> Iterator[None]:
    """One secret of each kind, encrypted with the old key."""
    with app.app_context():
        with transaction() as session:
            session.add(UserProfile(username="ada", totp_secret="totp"))
            session.add(LLMProviderCredential(name="llm", api_key="sk-1", custom_headers='{"X": "y"}'))
            session.add(ComponentConfig(component_type="", secrets='{"token": "t"}'))
        record = idempotency.begin("user:1", "key", "print", datetime(2026, 1, 1, tzinfo=UTC))
        assert isinstance(record, idempotency.Running)
        idempotency.finish(record, idempotency.Answer(201, "{}"))
        yield
        cipher.use([OLD])


def stored() -> list[str]:
    columns = (
        ("totp_secret", "user_profiles"),
        ("api_key", "llm_credentials"),
        ("custom_headers", "llm_credentials"),
        ("secrets", "component_configs"),
        ("body", "idempotency_records"),
    )
    return [str(db.session.scalar(text(f"SELECT {column} FROM {table}"))) for column, table in columns]


def test_after_a_rotation_the_old_key_can_go() -> None:
    before = stored()
    cipher.use([NEW, OLD])

    assert credentials.rotate_keys() == 5

    cipher.use([NEW])
    db.session.expire_all()
    assert not set(before) & set(stored())
    assert db.session.scalars(select(UserProfile.totp_secret)).one() == "totp"
    credential = db.session.scalars(select(LLMProviderCredential)).one()
    assert (credential.api_key, credential.custom_headers) == ("sk-1", '{"X": "y"}')
    assert db.session.scalars(select(ComponentConfig.secrets)).one() == '{"token": "t"}'
    assert [cipher.decrypt(token) for token in stored()]


def test_a_secret_under_an_unknown_key_stops_the_rotation_and_nothing_changes() -> None:
    cipher.use([NEW, OLD])
    with transaction() as session:
        token = Fernet(Fernet.generate_key()).encrypt(b"x").decode()
        session.execute(text("UPDATE component_configs SET secrets = :token"), {"token": token})
    before = stored()

    with pytest.raises(CredentialError, match=r"component_configs\.secrets"):
        credentials.rotate_keys()

    assert stored() == before
