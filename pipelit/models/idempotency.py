"""What was answered to requests that carried an `Idempotency-Key`."""

from datetime import datetime

from sqlalchemy import String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from pipelit import clock
from pipelit.models.types import Base, UtcDateTime


class IdempotencyRecord(Base):
    """`owner` is who sent the key (a user, or a webhook's path); `status` is NULL while the first request runs.

    `holder` is the process that has the request, and a token; `execution_id` what the request started, if it did.
    """

    __tablename__ = "idempotency_records"
    __table_args__ = (UniqueConstraint("owner", "key"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(String(300))
    key: Mapped[str] = mapped_column(String(128))
    fingerprint: Mapped[str] = mapped_column(String(64))
    status: Mapped[int | None]
    body: Mapped[str | None] = mapped_column(Text)
    holder: Mapped[str | None] = mapped_column(String(300))
    execution_id: Mapped[str | None] = mapped_column(String(36))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=clock.now, index=True)
