"""`make bench`: everything that is measured, as a table and as JSON (`var/bench.json`)."""

import json
import sys
from pathlib import Path

from bench import hops, loops, product, websocket
from bench.stage import ROOT, stage
from pipelit.engine.slices import Placement

TARGET_FILE = ROOT / "var" / "bench.json"


def main() -> None:
    """Measure one thing after another, so that none slows another down."""
    print("Measuring hops ...", file=sys.stderr)
    with stage() as prepared:
        hop = hops.measure(prepared)
    print("Measuring loops ...", file=sys.stderr)
    with stage() as prepared:
        runs = loops.measure(prepared)
    print("Measuring the product ...", file=sys.stderr)
    whole = product.measure()
    print("Measuring live events ...", file=sys.stderr)
    live = websocket.measure()
    rows = [
        ("hop, bare Celery", f"{hop.hop_ms['celery']:.2f} ms", ""),
        ("hop, Pipelit", f"{hop.hop_ms[Placement.CHAINED]:.2f} ms", ""),
        ("hop ratio", f"{hop.hop_ratio(Placement.CHAINED):.2f}", "<= 1.15"),
        ("hop in a local slice", f"{hop.hop_ms[Placement.LOCAL]:.2f} ms", ""),
        ("hop ratio in a local slice", f"{hop.hop_ratio(Placement.LOCAL):.2f}", "<= 0.4"),
        ("50 chains, bare Celery", f"{hop.steps_per_second['celery']:.0f} steps/s", ""),
        ("50 chains, Pipelit", f"{hop.steps_per_second[Placement.CHAINED]:.0f} steps/s", ""),
        ("throughput ratio", f"{hop.throughput_ratio(Placement.CHAINED):.2f}", ">= 0.8"),
        ("50 chains, local slices", f"{hop.steps_per_second[Placement.LOCAL]:.0f} steps/s", ""),
        ("throughput ratio, local slices", f"{hop.throughput_ratio(Placement.LOCAL):.2f}", ">= 3"),
        ("webhook reply, p50", f"{whole.webhook.p50_ms:.1f} ms", "<= 25 ms"),
        ("webhook reply, p99", f"{whole.webhook.p99_ms:.1f} ms", ""),
        ("webhook replies", f"{whole.webhook.per_second:.0f} /s", ">= 100 /s"),
        ("webhook reply, processor", f"{sum(whole.cpu_ms['reply'].values()):.1f} ms", ""),
        ("webhooks accepted", f"{whole.accepted.per_second:.0f} /s", ">= 300 /s"),
        ("webhook accepted, processor", f"{sum(whole.cpu_ms['acceptance'].values()):.1f} ms", ""),
        ("plain Flask view, p50", f"{whole.flask.p50_ms:.1f} ms", ""),
        ("plain Flask view", f"{whole.flask.per_second:.0f} /s", ""),
        ("first start until ready", f"{whole.first_start_s:.1f} s", ""),
        ("second start until ready", f"{whole.second_start_s:.1f} s", "< 5 s"),
        *((f"idle, {each.name}", f"{each.rss:.0f} / {each.pss:.0f} MB", "") for each in whole.weights),
        ("idle, resident", f"{whole.rss_mb:.0f} MB", "< 500 MB"),
        ("idle, shared pages counted once", f"{whole.pss_mb:.0f} MB", ""),
        *(row for run in runs for row in run.rows()),
        *live.rows(),
    ]
    width = max(len(name) for name, _, _ in rows)
    print(f"{'what':<{width}}  {'measured':>16}  target")
    for name, value, target in rows:
        print(f"{name:<{width}}  {value:>16}  {target}")
    _write(
        {
            "hops": hop.as_json(),
            "product": whole.as_json(),
            "live": live.as_json(),
            "loops": [run.as_json() for run in runs],
        },
        TARGET_FILE,
    )


def _write(figures: dict[str, object], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"\nAlso in {file.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
