"""Images per second from shards to device batches, beside decoding alone and PyTorch's DataLoader.

    python scripts/benchmarks/pipeline.py --images=PATH/TO/ham10000 --work=/tmp/benchmark \\
        --peer=PATH/TO/python --json=FILE

Takes JPEGs from under --images (without it, draws lesions), brings them to --size, writes them to
shards in --work as a data set is prepared, and takes the JPEGs out of the shards again, as files
for the others. Then all of these take turns, each for --seconds:

- bare: `cv2.imdecode` of the bytes in memory, on one thread and on as many as there are cores;
- pipeline: what training does, shards to shuffled batches to arrays that are on the device, by
  threads and by worker processes, from JPEG and raw shards and from the cache of decoded images;
- DataLoader: the files by `peer_loader.py` in another environment's Python (--peer), with the
  augmentation of skinjax's default config and without any. Its glibc keeps freed memory as ours
  does, unless --peer_malloc=default: PyTorch as it comes, which is slower.

The pipeline augments nothing, here as in training: the device does, whose cost `train.py` and
`end_to_end.py` hold. So its ratio to a DataLoader that augments is what a user gains on the host.
The share of time that training waits for batches is in `loop.py`.

Before it is timed, each takes as many batches as it reads ahead. Ratios are medians of those within
a round: to bare decoding on all cores, and to the DataLoader that augments and is the fastest.
Processor time per image (of this process; worker processes' isn't known) tells more than images/s
on a busy machine. For one core: `taskset -c 0 python ...`.
"""

import argparse
import contextlib
import hashlib
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
import record
from peer import Peer, PeerError, add_malloc_flag

from skinjax import parallel
from skinjax.config import default_config
from skinjax.data import (
    cache,
    fingerprints,
    image_store,
    images,
    pipeline,
    prepared,
    shards,
    synthetic,
    threads,
)
from skinjax.data.preprocess import Preprocess
from skinjax.data.records import Record

# Takes turns for some seconds; gives images, seconds, and processor seconds if they are known.
Turn = Callable[[float], tuple[int, float, float | None]]
_HEADERS = ("what", "images/s", "range", "CPU µs an image", "to imdecode", "to DataLoader")


def main() -> None:
    """Prints the table."""
    arguments = _arguments()
    parallel.initialize(default_config().parallel)
    folders = _prepare(arguments)
    turns = {**_bare(folders["files"], arguments), **_pipelines(folders, arguments)}
    about: dict[str, dict[str, Any]] = {}
    with contextlib.ExitStack() as stack:
        if arguments.peer:
            peer = stack.enter_context(
                Peer(arguments.peer, "peer_loader.py", arguments.peer_malloc)
            )
            turns |= _loaders(folders["files"], peer, arguments, about)
        results = [one | about.get(one["what"], {}) for one in _measure(turns, arguments)]
    rows = [
        [
            one["what"],
            one["images_per_second"],
            f"{min(one['rounds']):,.0f} to {max(one['rounds']):,.0f}",
            one["cpu_microseconds"],
            one["to_imdecode"],
            one["to_dataloader"],
        ]
        for one in results
    ]
    record.report(arguments.json, "pipeline", results, _HEADERS, rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )

    def add(flag: str, default: Any, text: str, **kwargs: Any) -> None:
        parser.add_argument(flag, default=default, help=f"{text} (default: {default})", **kwargs)

    add("--images", "", "folder of JPEGs, searched whole; none: drawn lesions")
    parser.add_argument("--work", type=Path, required=True, help="folder for files and shards")
    add("--count", 4000, "images, each of them decoded once an epoch", type=int)
    add("--size", 224, "side of the images", type=int)
    add("--batch", 32, "images in a batch", type=int)
    add("--sources", "jpeg,raw,cache", "of the pipeline")
    add("--threads", "1,2,4", "threads that read batches, one pipeline each")
    add("--workers", "2", "worker processes, one more pipeline each, from JPEG shards")
    add("--peer", "", "Python of an environment with torch and torchvision")
    add_malloc_flag(parser)
    add("--peer_workers", "0,2,4", "worker processes of the DataLoaders")
    add("--rounds", 5, "turns of each", type=int)
    add("--seconds", 2.0, "of one turn", type=float)
    add("--json", "", "file to write the results to")
    return parser.parse_args()


def _prepare(arguments: argparse.Namespace) -> dict[str, Path]:
    """The folders of JPEG files, and of the shards of each encoding; one for each --images."""
    origin = str(Path(arguments.images).resolve()) if arguments.images else "drawn"
    digest = hashlib.sha256(origin.encode()).hexdigest()[:8]
    work = arguments.work / f"{arguments.count}_of_{arguments.size}_{digest}"
    if not arguments.images:
        drawn = work / "drawn"
        lesions = min(400, arguments.count)
        synthetic.write(drawn, num_lesions=lesions, image_size=arguments.size, seed=0)
    found = sorted(Path(arguments.images or drawn).rglob("*.jpg"))
    if not found:
        raise SystemExit(f"no .jpg under {arguments.images}")
    data = default_config().data
    data.image_size = arguments.size
    records = [
        Record(path.stem, path, number % 7, path.stem, None, "", "", "")
        for number, path in enumerate(_sized(found, work / "sized", arguments))
    ]
    folders = {"files": work / "files"}
    digests = fingerprints.hash_images(records, work / "hashes.csv")
    for encoding in ("jpeg", "raw"):
        spec = shards.Spec(tuple("abcdefg"), Preprocess.from_config(data), encoding, 1)
        store = image_store.build(
            work / "stores", records, digests, spec, image_store.on_this_machine
        )
        folders[encoding] = store.directory
    _take_out(folders["jpeg"], folders["files"])
    return folders


def _sized(found: Sequence[Path], folder: Path, arguments: argparse.Namespace) -> list[Path]:
    """`count` JPEGs of the size, from as many files as there are, over and over."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:07d}.jpg" for number in range(arguments.count)]
    for path, original in zip(paths, itertools.cycle(found), strict=False):
        if not path.exists():
            image_HWC = images.resize(images.decode(original), arguments.size)
            path.write_bytes(images.encode_jpeg(image_HWC))
    return paths


def _take_out(store: Path, folder: Path) -> None:
    """Writes the JPEGs of a store as files, as TFDS reads them."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(store))
    raw = {"image": tfds.decode.SkipDecoding()}
    examples = builder.as_data_source(split="images", decoders=raw)
    folder.mkdir(exist_ok=True)
    for number, example in enumerate(examples):
        (folder / f"{number:07d}.jpg").write_bytes(example["image"])


def _bare(files: Path, arguments: argparse.Namespace) -> dict[str, Turn]:
    jpegs = [path.read_bytes() for path in sorted(files.iterdir())]
    chunks = [jpegs[at : at + arguments.batch] for at in range(0, len(jpegs), arguments.batch)]

    def decode(chunk: Sequence[bytes]) -> int:
        for jpeg in chunk:
            cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        return len(chunk)

    def on(num_threads: int) -> Turn:
        # All threads are waited for at the end of a pass, so it has many chunks for each.
        a_pass = chunks * max(1, 64 * num_threads // len(chunks))

        def turn(seconds: float) -> tuple[int, float, float]:
            executor = futures.ThreadPoolExecutor(num_threads)

            def passes() -> Iterator[int]:
                while True:
                    yield from executor.map(decode, a_pass)

            try:
                return _timed(passes(), seconds)
            finally:
                executor.shutdown(cancel_futures=True)

        return turn

    counts = sorted({1, threads.available_cores()})
    return {f"bare, {count} threads": on(count) for count in counts}


def _pipelines(folders: dict[str, Path], arguments: argparse.Namespace) -> dict[str, Turn]:
    chosen = [
        (source, num_threads, 0)
        for source in arguments.sources.split(",")
        for num_threads in _numbers(arguments.threads)
    ]
    chosen += [("jpeg", 1, num_workers) for num_workers in _numbers(arguments.workers)]
    return {
        f"pipeline, {source}, "
        + (f"{num_workers} workers" if num_workers else f"{num_threads} threads"): _pipeline(
            _source(source, folders, arguments), num_threads, num_workers, arguments
        )
        for source, num_threads, num_workers in chosen
    }


def _source(name: str, folders: dict[str, Path], arguments: argparse.Namespace) -> pipeline.Source:
    """What `PreparedDataset.source` gives for a split that is all of the images."""
    source: Any = prepared.ImageSource(folders["jpeg" if name == "cache" else name])
    if name == "cache":
        source = cache.cached(source, folders["jpeg"].parent / "decoded", arguments.size)
    return prepared.Subset(source, np.arange(arguments.count))


def _pipeline(
    source: pipeline.Source, num_threads: int, num_workers: int, arguments: argparse.Namespace
) -> Turn:
    mapper = parallel.Mapper("pmap", jax.local_devices()[:1])
    made: list[Any] = []

    def batches(iterator: Any) -> Iterator[int]:
        for batch in iterator:
            jax.block_until_ready(mapper.shard(batch))
            yield len(batch["label"])

    def turn(seconds: float) -> tuple[int, float, float | None]:
        if not made:
            dataset = pipeline.train_dataset(
                source,
                batch_size=arguments.batch,
                seed=0,
                num_threads=num_threads,
                num_workers=num_workers,
            )
            made.append(iter(dataset))
        counts = batches(made[0])
        for _ in range(2 * max(2, num_threads) + 4 * num_workers):  # what was read ahead
            next(counts)
        count, wall, cpu = _timed(counts, seconds)
        return count, wall, None if num_workers else cpu

    return turn


def _loaders(
    files: Path, peer: Peer, arguments: argparse.Namespace, about: dict[str, dict[str, Any]]
) -> dict[str, Turn]:
    """The DataLoaders; their turns write into `about` what of the peer the JSON is to have."""
    settings = default_config().augment.to_dict()
    print(f"DataLoader: {peer.versions}", flush=True)

    def ask(what: str, num_workers: int, augment: dict[str, Any]) -> Turn:
        def turn(seconds: float) -> tuple[int, float, None]:
            answer = peer.ask(
                folder=str(files.resolve()),
                batch=arguments.batch,
                workers=num_workers,
                augment=augment,
                seconds=seconds,
            )
            about[what] = {"peer": dict(peer.versions), "decoder": answer["decoder"]}
            return answer["images"], answer["seconds"], None

        return turn

    chosen: list[tuple[str, int, dict[str, Any]]] = [
        (f"DataLoader, {kind}, {num_workers} workers", num_workers, augment)
        for kind, augment in (("augmented", settings), ("decoded alone", {}))
        for num_workers in _numbers(arguments.peer_workers)
    ]
    return {what: ask(what, num_workers, augment) for what, num_workers, augment in chosen}


def _timed(counts: Iterator[int], seconds: float) -> tuple[int, float, float]:
    """Takes batches for some seconds: images, seconds, processor seconds."""
    start, start_cpu, images_taken = time.perf_counter(), time.process_time(), 0
    while (taken := time.perf_counter() - start) < seconds or not images_taken:
        images_taken += next(counts)
    return images_taken, taken, time.process_time() - start_cpu


def _measure(turns: dict[str, Turn], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Each contestant's rates, round by round, and its ratios."""
    rates: dict[str, list[float]] = {what: [] for what in turns}
    cpu: dict[str, list[float]] = {what: [] for what in turns}
    for number in range(arguments.rounds + 1):
        for what, turn in list(turns.items()):
            start = time.perf_counter()
            try:
                count, wall, seconds = turn(arguments.seconds if number else 0.0)
            except PeerError as error:
                print(f"{what}: {error}", flush=True)
                del turns[what]
                continue
            if not number:
                taken = time.perf_counter() - start
                print(f"# {what}: {taken:.1f} s to begin", file=sys.stderr, flush=True)
            else:
                rates[what].append(count / wall)
                cpu[what] += [] if seconds is None else [seconds / count * 1e6]
            time.sleep(min(0.2, arguments.seconds))  # whoever reads ahead does so in its own time
    bare = rates[f"bare, {threads.available_cores()} threads"]
    augmented = [rates[what] for what in turns if what.startswith("DataLoader, augmented")]
    best = max(augmented, key=statistics.median, default=None)
    return [
        {
            "what": what,
            "images_per_second": statistics.median(rates[what]),
            "rounds": rates[what],
            "cpu_microseconds": statistics.median(cpu[what]) if cpu[what] else None,
            "to_imdecode": _ratio(rates[what], bare),
            "to_dataloader": _ratio(rates[what], best) if best else None,
        }
        for what in turns
    ]


def _ratio(ones: Sequence[float], others: Sequence[float]) -> float:
    return statistics.median(one / other for one, other in zip(ones, others, strict=True))


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


if __name__ == "__main__":
    main()
