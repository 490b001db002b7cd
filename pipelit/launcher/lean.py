"""What makes our processes start fast and stay small."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# structlog (for tracebacks) and httpx (for its own command line) load them where development tools brought them along:
# 7 MB in each of the product's processes, never used.
DECORATION = ("rich", "pygments")


def leave_out_decoration() -> None:
    """Have later imports of these fail, which both take for "not installed"."""
    for name in DECORATION:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # what the import system documents for this


@contextmanager
def importing() -> Iterator[None]:
    """Import inside without the garbage collector, which finds nothing there but takes a tenth of the time.

    What was imported lives as long as the process. Frozen, it is never looked at again, and a forked child does not
    get pages of its own for it.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
