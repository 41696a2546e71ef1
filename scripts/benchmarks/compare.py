"""Images per second of the networks' steps, in turns with timm's on the same device.

    PYTHONPATH=FOLDER_OF_timm_on_cpu python scripts/benchmarks/compare.py --peer=PATH/TO/python

Each round takes all contestants in turns, so that they meet the same noise: skinjax with each of
--lowerings, and, where --peer names the Python of an environment with torch and timm, timm eager
and compiled (`peer_timm.py` says what it does and how that differs). The kinds of work are
`network_step.KINDS`: "train" is the whole step of training with augmentation and AdamW, "step" the
same without augmentation, "infer" evaluation's; all on uint8 images that are on the device.

Each table gives the median of the rounds, their range, and the median and range of the ratios,
round by round, to timm: to the better of eager and compiled on a CPU, to the better of what is
compiled on a GPU. The last column is the ratio that this project wants (at 224 px). Without --peer
it compares the lowerings alone. On a CPU timm's process keeps freed memory for itself as skinjax's
does; with --peer_malloc=default it is PyTorch as it comes, which is slower there.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import jax
import network_step
import peer as peer_lib
import record
from network_step import Work

# The least ratio that is wanted, on a CPU and on a GPU.
LINES = {
    ("efficientnet_b0", "train"): (1.0, 1.2),
    ("efficientnet_b0", "infer"): (1.0, 1.0),
    ("resnet50", "train"): (0.9, 1.0),
    ("efficientnetv2_s", "train"): (0.9, 1.0),
}

_HEADERS = ("network", "work", "what", "images/s", "range", "to timm", "range of it", "wanted")
_OF_TIMM = "timm "

Rounds = dict[str, list[float]]


def main() -> None:
    """Prints one table over all networks and kinds of work."""
    arguments = _arguments()
    # JAX would else take three quarters of a GPU's memory before the peer starts.
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.45")
    # How long compiling takes is for `train.py` to say.
    network_step.start(arguments.devices, cached=True)
    batch, dtype = network_step.usual(arguments.batch, arguments.dtype)
    peer = None
    if arguments.peer:
        peer = peer_lib.Peer(arguments.peer, "peer_timm.py", arguments.peer_malloc)
    results: list[dict[str, Any]] = []
    rows: list[list[object]] = []
    for name in arguments.models:
        for kind in arguments.kinds:
            work = Work(name, kind, batch, arguments.size, dtype)
            found = compare(work, arguments, peer)
            rows += _rows(work, found)
            results.append(found)
            record.write(arguments.json, "compare", results)  # what there is, if it is cut short
    ours = f"jax {jax.__version__} on {jax.device_count()} x {jax.devices()[0].device_kind}"
    print(f"batch {batch}, {arguments.size} px, {dtype}, {arguments.rounds} rounds, ", end="")
    print(f"load {os.getloadavg()[0]:.1f}\nskinjax: {ours}")
    print(f"timm: {peer.versions if peer else 'none'}\n")
    record.report(arguments.json, "compare", results, _HEADERS, rows)
    if peer:
        peer.close()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = network_step.add_flags(parser)
    add("--peer", "", "Python of an environment with timm; none: skinjax alone")
    text = "timm's contestants: eager, compiled, or a mode of torch.compile (reduce-overhead)"
    peer_lib.add_malloc_flag(parser)
    add("--peers", ["eager", "compiled"], text, type=network_step.names)
    text = "comma-separated: auto, cpu, xla"
    add("--lowerings", ["auto"], text, type=network_step.names)
    return parser.parse_args()


def compare(
    work: Work, arguments: argparse.Namespace, peer: peer_lib.Peer | None
) -> dict[str, Any]:
    """The rounds of all contestants on one work, as the JSON has them."""
    found: dict[str, Any] = {
        **asdict(work),
        "devices": jax.device_count(),
        "peer": peer.versions if peer else None,
        "about": {},
    }
    rivals: dict[str, Callable[[int], float]] = {}
    steps: dict[str, int] = {}
    for rival, make in _makers(work, arguments, peer).items():
        try:
            run, about = make()
            steps[rival] = max(1, round(arguments.seconds / run(1)))
            rivals[rival] = run
        except (
            peer_lib.PeerError,
            RuntimeError,
            ValueError,
        ) as error:  # also out of memory; others go on
            about = {"error": (str(error).splitlines() or ["no message"])[0]}
        found["about"][rival] = about
        print(f"# {work.model}, {work.kind}, {rival}: {about}", file=sys.stderr, flush=True)
    speeds: Rounds = {rival: [] for rival in rivals}
    for _ in range(arguments.rounds):
        for rival, run in rivals.items():
            speeds[rival].append(steps[rival] * work.batch / run(steps[rival]))
    if peer:
        peer.ask(forget=True)
    best = _best(speeds)
    found["images_per_second"] = speeds
    found["to"] = best
    found["ratios"] = {
        rival: [ours / theirs for ours, theirs in zip(rounds, speeds[best], strict=True)]
        for rival, rounds in speeds.items()
        if best
    }
    return found


def _makers(
    work: Work, arguments: argparse.Namespace, peer: peer_lib.Peer | None
) -> dict[str, Callable[[], tuple[Callable[[int], float], dict[str, Any]]]]:
    """What builds, compiles and warms up each contestant: from steps to seconds, and about it."""

    def ours(lowering: str) -> Callable[[], Any]:
        def make() -> Any:
            step = network_step.Step(work, lowering)
            seconds = step.init_seconds + step.seconds(1)
            step.seconds(2)
            return step.seconds, {"warm_up": seconds, "parameters": step.parameters}

        return make

    def theirs(mode: str) -> Callable[[], Any]:
        settings = network_step.config_of(work).augment.to_dict()

        def make() -> Any:
            assert peer
            asked = {**asdict(work), "mode": mode, "augment": settings}
            about = peer.ask(**asked, steps=1)
            return lambda steps: float(peer.ask(**asked, steps=steps)["seconds"]), about

        return make

    peers = arguments.peers if peer else ()
    return {f"skinjax {lowering}": ours(lowering) for lowering in arguments.lowerings} | {
        f"{_OF_TIMM}{mode}": theirs(mode) for mode in peers
    }


def _best(speeds: Rounds) -> str:
    """Of timm's contestants the one to compare with; "" where there is none."""
    peers = {rival: rounds for rival, rounds in speeds.items() if rival.startswith(_OF_TIMM)}
    if jax.devices()[0].platform != "cpu" and len(peers) > 1:
        peers.pop(f"{_OF_TIMM}eager", None)
    return max(peers, key=lambda rival: statistics.median(peers[rival]), default="")


def _rows(work: Work, found: dict[str, Any]) -> list[list[object]]:
    rows: list[list[object]] = []
    for rival, about in found["about"].items():
        if "error" in about:
            rows.append([work.model, work.kind, rival, about["error"], *[None] * 4])
            continue
        speeds, ratios = found["images_per_second"][rival], found["ratios"].get(rival)
        lines = LINES.get((work.model, work.kind)) if work.size == 224 else None
        line = lines[jax.devices()[0].platform != "cpu"] if lines else None
        is_ours = not rival.startswith(_OF_TIMM)
        rows.append(
            [
                *(work.model, work.kind, rival, statistics.median(speeds), _range(speeds, 1)),
                f"{statistics.median(ratios):.2f}" if ratios else None,
                _range(ratios, 2) if ratios else None,
                f">= {line}" if line and is_ours else None,
            ]
        )
    return rows


def _range(values: Sequence[float], digits: int) -> str:
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


if __name__ == "__main__":
    main()
