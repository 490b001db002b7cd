"""Celery in: each task calls one thing. Importing this package registers them all."""

from pipelit.extensions import celery
from pipelit.tasks import executions, journal, maintenance, steps, workers
from pipelit.tasks.base import use

__all__ = ["celery", "executions", "journal", "maintenance", "steps", "use", "workers"]
