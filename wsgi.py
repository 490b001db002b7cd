"""The application for a WSGI server: `gunicorn wsgi:app`. Importing this module is starting the process."""

from pipelit import telemetry
from pipelit.app import create_app
from pipelit.launcher.environment import load_settings

_settings = load_settings()
telemetry.configure(_settings)
app = create_app(_settings)
