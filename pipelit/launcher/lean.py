"""Keeps libraries out of our processes that others would load only because they are installed."""

import sys

# structlog (for tracebacks) and httpx (for its own command line) load them where development tools brought them along:
# 7 MB in each of the product's processes, never used.
DECORATION = ("rich", "pygments")


def leave_out_decoration() -> None:
    """Have later imports of these fail, which both take for "not installed"."""
    for name in DECORATION:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # what the import system documents for this
