"""Images per second of the networks, in turns with timm on the same cores.

    PYTHONPATH=FOLDER_OF_timm_on_cpu python scripts/benchmarks/models.py --peer=PATH/TO/python

Each round takes all contestants in turns, so that they meet the same noise: skinjax with each of
--lowerings, and, where --peer names the Python of an environment with torch and timm, timm as
channels_last, eager and compiled. A training step is the forward pass with batch statistics,
cross-entropy, the backward pass and SGD with momentum, on both sides. Prints for each the median of
the rounds, their range, and the median of its ratios to the faster of timm's two in each round.

Without --peer it compares the lowerings alone, also on a GPU.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from skinjax import models, parallel
from skinjax.config import default_config


def main() -> None:
    """Prints one table per network and kind of step."""
    arguments = _arguments()
    settings = default_config().parallel
    settings.cpu_devices = arguments.devices
    parallel.initialize(settings)
    peer = Peer(arguments.peer) if arguments.peer else None
    print(f"skinjax: jax {jax.__version__}, {jax.device_count()} x {jax.devices()[0].device_kind}")
    print(f"XLA_FLAGS={os.environ['XLA_FLAGS']}")
    if peer:
        print(f"timm: {peer.versions}")
    for name in arguments.models:
        for kind in arguments.kinds:
            rivals = _rivals(name, kind, arguments, peer)
            _table(f"{name}, {kind}", rivals, arguments)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)

    def add(flag: str, default: Any, text: str, **kwargs: Any) -> None:
        shown = ",".join(default) if isinstance(default, list) else default
        parser.add_argument(flag, default=default, help=f"{text} (default: {shown})", **kwargs)

    def names(text: str) -> list[str]:
        return text.split(",")

    add("--peer", "", "Python of an environment with timm; none: skinjax alone")
    add("--models", ["efficientnet_b0", "resnet50"], "comma-separated", type=names)
    add("--kinds", ["train", "infer"], "comma-separated", type=names)
    add("--lowerings", ["auto"], "comma-separated: auto, cpu, xla", type=names)
    add("--peers", ["eager", "compiled"], "timm's contestants", type=names)
    add("--batch", 16, "images in a step", type=int)
    add("--size", 224, "side of the images", type=int)
    add("--dtype", "float32", "of the computation; bfloat16 is autocast in torch")
    add("--devices", 1, "CPU devices that skinjax divides a batch over", type=int)
    add("--rounds", 5, "of each contestant, in turns", type=int)
    add("--seconds", 3.0, "roughly what one contestant takes in one round", type=float)
    return parser.parse_args()


class Peer:
    """timm in a process of its own, asked round by round."""

    def __init__(self, python: str) -> None:
        """Starts it; `versions` says what it runs on."""
        script = Path(__file__).with_name("models_timm.py")
        self._process = subprocess.Popen(
            [python, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.versions = self._answer()

    def seconds(self, steps: int, **asked: Any) -> float:
        """Seconds that it needs for this many steps."""
        assert self._process.stdin
        print(json.dumps(asked | {"steps": steps}), file=self._process.stdin, flush=True)
        return float(self._answer()["seconds"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the peer has died; its message is above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _rivals(
    name: str, kind: str, arguments: argparse.Namespace, peer: Peer | None
) -> dict[str, Callable[[int], float]]:
    """What takes part: from a number of steps to seconds."""
    rivals = {
        f"skinjax {lowering}": _make_step(name, kind, lowering, arguments)
        for lowering in arguments.lowerings
    }

    def ask(compiled: bool) -> Callable[[int], float]:
        assert peer
        return lambda steps: peer.seconds(
            steps,
            model=name,
            batch=arguments.batch,
            size=arguments.size,
            dtype=arguments.dtype,
            train=kind == "train",
            compiled=compiled,
        )

    for kind_of_peer in arguments.peers if peer else ():
        rivals[f"timm {kind_of_peer}"] = ask(kind_of_peer == "compiled")
    return rivals


def _make_step(
    name: str, kind: str, lowering: str, arguments: argparse.Namespace
) -> Callable[[int], float]:
    """Compiles one step of ours; gives what runs it some times and says the seconds."""
    config = default_config()
    config.model.update(name=name, dtype=arguments.dtype, lowering=lowering, head=())
    model = models.create(config.model, num_classes=1000, axis_name=parallel.AXIS)
    mapper = parallel.Mapper("pmap", jax.devices())
    size, batch = arguments.size, arguments.batch
    draw = np.random.default_rng(0)
    data = mapper.shard(
        {
            "image": draw.random((batch, size, size, 3), np.float32),
            "label": np.arange(batch, dtype=np.int32) % 8,
        }
    )
    tx = optax.sgd(1e-3, momentum=0.9)

    def init(key: jax.Array) -> Any:
        variables = model.init(key, jnp.zeros((1, size, size, 3)), train=False)
        return variables, tx.init(variables["params"])

    def train_step(state: Any, batch: Any) -> Any:
        variables, opt_state = state
        params, stats = variables["params"], variables.get("batch_stats", {})

        def objective(params: Any) -> Any:
            logits_BC, updated = model.apply(
                {"params": params, "batch_stats": stats},
                batch["image"],
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(0)},
            )
            loss_B = optax.softmax_cross_entropy_with_integer_labels(logits_BC, batch["label"])
            return loss_B.mean(), updated

        (_, updated), grads = jax.value_and_grad(objective, has_aux=True)(params)
        grads = jax.lax.pmean(grads, parallel.AXIS)
        updates, opt_state = tx.update(grads, opt_state)
        return {"params": optax.apply_updates(params, updates), **updated}, opt_state

    def forward(state: Any, batch: Any) -> Any:
        logits_BC = model.apply(state[0], batch["image"], train=False)
        return jax.lax.all_gather(logits_BC, parallel.AXIS, tiled=True)

    state = mapper.replicate(jax.jit(init)(jax.random.key(0)))
    step = mapper.map(train_step if kind == "train" else forward, donate_state=kind == "train")

    def run(steps: int) -> float:
        nonlocal state
        start = time.perf_counter()
        for _ in range(steps):
            outputs = jax.block_until_ready(step(state, data))
            state = outputs if kind == "train" else state
        return time.perf_counter() - start

    return run


def _table(
    title: str, rivals: dict[str, Callable[[int], float]], arguments: argparse.Namespace
) -> None:
    """Runs the rounds and prints one line per contestant."""
    steps = {}
    for rival, run in rivals.items():
        start = time.perf_counter()
        run(1)
        compiling = time.perf_counter() - start
        steps[rival] = max(1, round(arguments.seconds / run(1)))
        print(f"# {rival}: {compiling:.0f} s to build and compile", file=sys.stderr, flush=True)
    speeds: dict[str, list[float]] = {rival: [] for rival in rivals}
    for _ in range(arguments.rounds):
        for rival, run in rivals.items():
            speeds[rival].append(steps[rival] * arguments.batch / run(steps[rival]))
    best = _best(speeds)
    print(f"\n{title}, batch {arguments.batch}, {arguments.size} px, {arguments.dtype}")
    print(f"| what | images/s | of {len(best or speeds)} rounds: range | to timm |\n{'|---' * 4}|")
    for rival, found in speeds.items():
        ratio = statistics.median(a / b for a, b in zip(found, best, strict=True)) if best else None
        shown = "" if ratio is None else f"{ratio:.2f}"
        middle = statistics.median(found)
        print(f"| {rival} | {middle:.1f} | {min(found):.1f} to {max(found):.1f} | {shown} |")
    sys.stdout.flush()


def _best(speeds: dict[str, list[float]]) -> Sequence[float]:
    """The rounds of the faster of timm's contestants; empty where there is none."""
    rounds = [found for rival, found in speeds.items() if rival.startswith("timm")]
    return max(rounds, key=statistics.median, default=())


if __name__ == "__main__":
    main()
