"""Puts together what every process of Pipelit has: settings, Redis, SQL, Celery, node types, the engine.

Without the API: a worker does without it, and it would cost each of them 10 MB.
"""

from flask import Flask

import celeryconfig
from pipelit.config import Settings
from pipelit.engine.runtime import EXTENSION, Engine
from pipelit.extensions import celery, connect_redis, db
from pipelit.models.types import cipher
from pipelit.nodes import registry


def assemble(settings: Settings) -> Flask:
    """A Flask application for these settings, with its extensions bound, every node type mapped, and no routes."""
    app = Flask("pipelit", static_folder=None)
    app.config.from_mapping(
        SECRET_KEY=settings.secret_key,
        SQLALCHEMY_DATABASE_URI=settings.database_url,
        SQLALCHEMY_ENGINE_OPTIONS=_engine_options(settings),
        MAX_CONTENT_LENGTH=settings.max_body_bytes,
    )
    app.extensions["pipelit.settings"] = settings
    app.extensions["pipelit.redis"] = connect_redis(settings.redis_url)
    cipher.use(settings.field_encryption_keys)
    registry.load()
    db.init_app(app)
    celery.config_from_object(celeryconfig)
    celery.conf.update(celeryconfig.from_settings(settings))
    app.extensions[EXTENSION] = Engine(settings, app.extensions["pipelit.redis"], celery)
    return app


def _engine_options(settings: Settings) -> dict[str, object]:
    """Pool sizes follow from what a process runs at once; SQLite connections cross threads under gevent.

    Errors of the database do not show the parameters of their statements: errors are logged, parameters are secrets.
    """
    if settings.database_url.startswith("sqlite"):
        connection = {"check_same_thread": False}
        return {"hide_parameters": True, "connect_args": connection, "pool_size": 20, "max_overflow": 20}
    return {"hide_parameters": True, "pool_size": 10, "max_overflow": 20, "pool_pre_ping": True}
