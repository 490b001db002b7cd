"""`make faults`: the whole suite, as large as it is wished."""

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from tests.faults import report, storm
from tests.faults.injectors import INJECTORS

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Exit code 0 if nothing was found on any of the databases."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--executions", type=int, default=1000)
    parser.add_argument("--faults", type=int, default=300)
    parser.add_argument("--workflows", type=int, default=12)
    parser.add_argument("--seed", type=int, default=None, help="by default another one each time")
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--kinds", default=",".join(INJECTORS), help="which faults, separated by commas")
    parser.add_argument("--pauses", default="0,1,3,8", help="seconds between faults: one of these each time")
    parser.add_argument("--lease", type=float, default=6.0, help="seconds of a lease")
    told = parser.parse_args()
    seed = secrets.randbelow(10**6) if told.seed is None else told.seed
    kinds = tuple(told.kinds.split(","))
    pauses = tuple(float(pause) for pause in told.pauses.split(","))
    size = storm.Size(
        told.executions,
        told.faults,
        told.workflows,
        lease_seconds=told.lease,
        visibility_timeout=round(told.lease * 5),
        kinds=kinds,
        pauses=pauses,
    )
    is_clean = True
    for database in ("sqlite", "postgresql") if told.database == "both" else (told.database,):
        with tempfile.TemporaryDirectory(prefix="pl-effects-") as folder:
            print(f"{database}, seed {seed} ...", file=sys.stderr)
            kept = ROOT / "var" / f"faults-{database}-{seed}"
            result = storm.run(seed, database, size, Path(folder), keep=kept, say=_say)
        print(report.text(result), flush=True)
        if not result.verdict.is_clean:
            print(f"What was there in the end: {kept}", file=sys.stderr)
        is_clean = is_clean and result.verdict.is_clean
    return 0 if is_clean else 1


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
