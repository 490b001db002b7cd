"""A process of the product ends when its supervisor does, whatever ended the supervisor.

`python -m pipelit.launcher.guard PROGRAM ARGUMENT…` starts a program that cannot see to it itself.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import MutableMapping

PARENT = "PIPELIT_SUPERVISOR"
PR_SET_PDEATHSIG = 1


def end_with_supervisor(environ: MutableMapping[str, str]) -> bool:
    """Have the kernel send SIGTERM when the supervisor dies (Linux); False when there is no supervisor.

    The wish survives `exec` and is not inherited by children, who have this process to watch.
    """
    parent = environ.pop(PARENT, "")
    if not parent:
        return False
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(parent):
            # It died before the wish was known.
            sys.exit(1)
    return True


def kill_when_orphaned(patience: float) -> None:
    """Watch the parent from now on; `patience` seconds after it has died, this process is killed if it is still there.

    For programs that may hang in their own shutdown: a worker waits for a broker that the supervisor took along.
    """
    threading.Thread(target=_watch, args=(os.getppid(), patience), name="orphan", daemon=True).start()


def _watch(parent: int, patience: float) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    if sys.platform != "linux":
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(patience)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    end_with_supervisor(os.environ)
    os.execv(sys.argv[1], sys.argv[1:])
