"""The reference page of the settings and the example `.env`, written from their declarations."""

from pipelit.config import Setting, declared

_OPENING = """\
# Configuration

Every setting is an environment variable. A file `.env` in the folder Pipelit is started from may hold them as well;
what is in the environment wins. An empty variable counts as not set. None is needed to start.

A setting that is wrong stops the start with one sentence that names it, and exit code 2.

| Setting | Default | Meaning |
|---|---|---|
"""

_CLOSING = """
`{home}` stands for the folder `PIPELIT_HOME` names. Secrets that are not given are made at the first start and kept in
`{home}/secrets.env`, readable by its owner only: **back that file up with the database**, since stored credentials
cannot be read without it. To change the encryption key, put the new one first
(`FIELD_ENCRYPTION_KEY=new,old`), restart, run `pipelit rotate-keys`, and take the old one away.
"""


def configuration_page() -> str:
    """`docs/configuration.md`."""
    return _OPENING + "".join(map(_row, declared())) + _CLOSING


def example_environment() -> str:
    """`.env.example`: every setting, commented out, with its default."""
    entries = (f"\n# {setting.help}\n#{setting.name}={_example(setting)}\n" for setting in declared())
    return (
        "# Copy to .env and take the # away from what you change. docs/configuration.md is the reference.\n"
        + "".join(entries)
    )


# Defaults that are places rather than values are told in the meaning.
_TOLD = ("{socket}", "{default_home}")


def _row(setting: Setting) -> str:
    default = _default(setting)
    return f"| `{setting.name}` | {f'`{default}`' if default else ''} | {setting.help} |\n"


def _default(setting: Setting) -> str:
    return "" if any(place in setting.default for place in _TOLD) else setting.default


def _example(setting: Setting) -> str:
    return "" if "{" in setting.default else setting.default
