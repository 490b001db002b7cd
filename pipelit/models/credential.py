"""Secrets for the outside world, encrypted at rest; one table of what they share and one per kind."""

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from pipelit import clock
from pipelit.models.types import Base, EncryptedString, JsonValue, UtcDateTime


class BaseCredential(Base):
    """Credentials are global to the installation; `user_profile_id` says who made it."""

    __tablename__ = "credentials"
    __mapper_args__ = {"polymorphic_on": "credential_type", "polymorphic_abstract": True}

    id: Mapped[int] = mapped_column(primary_key=True)
    user_profile_id: Mapped[int | None] = mapped_column(ForeignKey("user_profiles.id", ondelete="SET NULL"), index=True)
    name: Mapped[str] = mapped_column(String(150))
    credential_type: Mapped[str] = mapped_column(String(20))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=clock.now)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=clock.now, onupdate=clock.now)


def _parent_key() -> Mapped[int]:
    return mapped_column(ForeignKey("credentials.id", ondelete="CASCADE"), primary_key=True)


class LLMProviderCredential(BaseCredential):
    """`custom_headers` is a JSON object, encrypted as a whole because its values are secret too."""

    __tablename__ = "llm_credentials"
    __mapper_args__ = {"polymorphic_identity": "llm"}

    id: Mapped[int] = _parent_key()
    provider_type: Mapped[str] = mapped_column(String(30), default="openai_compatible")
    api_key: Mapped[str] = mapped_column(EncryptedString(2000))
    base_url: Mapped[str | None] = mapped_column(String(500))
    organization_id: Mapped[str | None] = mapped_column(String(200))
    custom_headers: Mapped[str | None] = mapped_column(EncryptedString(8000))


class TelegramCredential(BaseCredential):
    """`api_url` names a self-hosted Bot API server; `mode` is `auto`, `polling` or `webhook`."""

    __tablename__ = "telegram_credentials"
    __mapper_args__ = {"polymorphic_identity": "telegram"}

    id: Mapped[int] = _parent_key()
    bot_token: Mapped[str] = mapped_column(EncryptedString(500))
    api_url: Mapped[str | None] = mapped_column(String(500))
    allowed_user_ids: Mapped[list[int]] = mapped_column(JsonValue, default=list)
    mode: Mapped[str] = mapped_column(String(10), default="auto")


class GitCredential(BaseCredential):
    """A token or a key for a git server, and the secret its webhooks are signed with."""

    __tablename__ = "git_credentials"
    __mapper_args__ = {"polymorphic_identity": "git"}

    id: Mapped[int] = _parent_key()
    provider: Mapped[str] = mapped_column(String(30))
    username: Mapped[str | None] = mapped_column(String(150))
    access_token: Mapped[str | None] = mapped_column(EncryptedString(2000))
    ssh_private_key: Mapped[str | None] = mapped_column(EncryptedString(20_000))
    webhook_secret: Mapped[str | None] = mapped_column(EncryptedString(500))


class ToolCredential(BaseCredential):
    """`config` is a JSON object, encrypted as a whole: which of its fields are secret is the tool type's to say."""

    __tablename__ = "tool_credentials"
    __mapper_args__ = {"polymorphic_identity": "tool"}

    id: Mapped[int] = _parent_key()
    tool_type: Mapped[str] = mapped_column(String(30))
    config: Mapped[str] = mapped_column(EncryptedString(20_000))
