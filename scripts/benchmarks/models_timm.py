"""The timm side of `models.py`, which starts it in timm's own environment and asks it in lines.

It reads one JSON object a line from stdin and answers with one on stdout:
{"model", "batch", "size", "dtype", "train", "compiled", "steps"} gives {"seconds"} for that many
steps; a combination seen for the first time is built and warmed up before. Where `timm_on_cpu` can
be imported, it is, before timm.
"""

import contextlib
import functools
import json
import sys
import time
from collections.abc import Callable
from typing import Any


@functools.cache
def make_step(
    name: str, batch: int, size: int, dtype: str, train: bool, compiled: bool
) -> Callable[[], Any]:
    """One training step (SGD with momentum, cross-entropy) or one forward pass, warmed up."""
    import timm
    import torch

    torch.manual_seed(0)
    model = timm.create_model(name).to(memory_format=torch.channels_last).train(train)
    call = torch.compile(model) if compiled else model
    images = torch.rand(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(batch) % 8
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    precision = torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16")

    def train_step() -> None:
        optimizer.zero_grad()
        with precision:
            loss = torch.nn.functional.cross_entropy(call(images), labels)
        loss.backward()
        optimizer.step()

    def forward() -> None:
        with torch.inference_mode(), precision:
            call(images)

    step = train_step if train else forward
    for _ in range(3):
        step()
    return step


def main() -> None:
    """Answers until stdin ends."""
    with contextlib.suppress(ImportError):
        import timm_on_cpu  # noqa: F401
    import timm
    import torch

    versions = {"timm": timm.__version__, "torch": torch.__version__}
    print(json.dumps(versions | {"threads": torch.get_num_threads()}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        steps = asked.pop("steps")
        step = make_step(*(asked[key] for key in asked))
        start = time.perf_counter()
        for _ in range(steps):
            step()
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    main()
