"""What makes our processes start fast and stay small."""

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from threading import RLock
from types import ModuleType

# structlog (for tracebacks) and httpx (for its own command line) load them where development tools brought them along:
# 7 MB in each of the product's processes, never used.
DECORATION = ("rich", "pygments")

# Imported by many and used by few: most processes make no HTTP call, none has an event loop, and a start seldom finds a
# database to migrate. Together 4 MB in each of them, and 0.3 s and more of most starts.
POSTPONED = frozenset(
    {
        "httpcore",
        "httpx",
        "limits.aio",
        "pipelit.integrations.connections",
        "pipelit.launcher.database",
        "prometheus_client",
        "redis.asyncio",
    }
)


def be_lean() -> None:
    """Have later imports of decoration fail, which is taken for "not installed", and the postponed ones wait."""
    for name in DECORATION:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # what the import system documents for this
    if not any(isinstance(finder, Postponing) for finder in sys.meta_path):
        sys.meta_path.insert(0, Postponing())


class Postponing(MetaPathFinder):
    """Finds the modules of `POSTPONED`, whose code runs when something is first asked of them.

    `importlib.util.LazyLoader` cannot do this for packages: importing anything inside of one counts as asking.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in POSTPONED:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _AtFirstUse(spec.loader)
        return spec


class _AtFirstUse(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._lock = RLock()
        self._has_begun = False

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module empty, but for the function that Python asks for names it does not find in a module."""
        names = module.__dict__

        def missing(name: str) -> object:
            with self._lock:
                # Asked again while it runs, by a module that it imports itself, it answers what is there already.
                if not self._has_begun:
                    self._has_begun = True
                    try:
                        self._loader.exec_module(module)
                    except BaseException:
                        # What stops a step may come up here as well. Whoever asks next begins anew.
                        self._has_begun = False
                        raise
                    if names.get("__getattr__") is missing:
                        del names["__getattr__"]
            if name in names:
                return names[name]
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

        names["__getattr__"] = missing


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
