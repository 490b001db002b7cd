"""What holds for every connection to SQLite, whoever opens it."""

import sqlite3
import threading
from pathlib import Path

from sqlalchemy import create_engine

from pipelit import extensions


def test_a_new_connection_does_not_wait_for_whoever_writes(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'one.db'}")
    with engine.connect() as first:
        first.exec_driver_sql("CREATE TABLE notes (text TEXT)")
        first.commit()
    writer = sqlite3.connect(tmp_path / "one.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")

    # In a process of greenlets it would be waiting for itself, and fail when its patience ends.
    with create_engine(f"sqlite:///{tmp_path / 'one.db'}").connect() as second:
        assert second.exec_driver_sql("SELECT count(*) FROM notes").scalar() == 0
        assert second.exec_driver_sql("PRAGMA auto_vacuum").scalar() == 2
    writer.close()


def test_who_writes_waits_for_its_turn(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'one.db'}")
    with engine.connect() as first:
        first.exec_driver_sql("CREATE TABLE notes (text TEXT)")
        first.commit()
    writer = sqlite3.connect(tmp_path / "one.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")

    def write() -> None:
        with engine.execution_options(**{extensions.WRITE: True}).connect() as second:
            second.exec_driver_sql("INSERT INTO notes VALUES ('after')")
            second.commit()

    waiting = threading.Thread(target=write)
    waiting.start()
    writer.execute("INSERT INTO notes VALUES ('before')")
    writer.execute("COMMIT")
    waiting.join()

    assert writer.execute("SELECT text FROM notes").fetchall() == [("before",), ("after",)]
    writer.close()
