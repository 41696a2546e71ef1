"""Folds that train at the same time, each in a process of its own on a device of its own."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from skinjax.errors import InputError, SkinjaxError, StoppedError, describe_system_error

_POLL = 0.1  # seconds


@dataclass(frozen=True)
class Device:
    """What one child gets: a GPU, or some cores of the CPU.

    Attributes:
      name: for messages.
      environment: variables that show the child this device only.
      cores: that the child is held to; () is all.
    """

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    cores: tuple[int, ...] = ()


def devices(settings: ConfigDict) -> list[Device]:
    """The devices that folds are spread over, found without starting JAX, which would take them.

    These are the GPUs that CUDA_VISIBLE_DEVICES names, or else all that nvidia-smi lists; without
    any, the cores of the CPU in `parallel.cpu_devices` shares (0: one a core). Of either, the first
    `parallel.num_devices` (0: all).

    Raises:
      InputError: there are fewer than `parallel.num_devices`, or JAX_PLATFORMS names another kind.
    """
    platforms = os.environ.get("JAX_PLATFORMS", "").lower()
    if any(name not in ("", "cpu", "cuda", "gpu") for name in platforms.split(",")):
        raise InputError(
            f"parallel.fold_per_device, and JAX_PLATFORMS is {platforms}: expected cuda or cpu;"
            " train the folds in turn, without it"
        )
    found = [] if platforms == "cpu" else _gpus()
    found = found or _cores(settings.cpu_devices)
    if not 0 <= settings.num_devices <= len(found):
        raise InputError(
            f"config.parallel.num_devices is {settings.num_devices}; there are {len(found)} devices"
            f" to train a fold on: give 1 to {len(found)}, or 0 for all"
        )
    return found[: settings.num_devices or None]


def run(workdir: Path, folds: Sequence[int], devices: Sequence[Device]) -> None:
    """Trains folds of the cross-validation whose config is in `workdir`, one on each device.

    What a fold prints goes to `fold_<i>.log`. SIGTERM and SIGINT are passed on, so that every fold
    saves. After a failure no further fold begins, and those that run are trained to their ends.

    Raises:
      SkinjaxError: a fold failed; it has the fold's own message.
      StoppedError: a signal came.
    """
    waiting, free = list(folds), list(devices)
    # By fold its process, its device, and where in its log this start begins.
    running: dict[int, tuple[subprocess.Popen[bytes], Device, int]] = {}
    failed: list[str] = []
    is_passed_on = False
    with _noted_signals() as stop:
        try:
            while running or (waiting and not (failed or stop)):
                while waiting and free and not (failed or stop):
                    fold, device = waiting.pop(0), free.pop(0)
                    log_begins = _size(_log(workdir, fold))
                    running[fold] = (_start(workdir, fold, device), device, log_begins)
                if stop and not is_passed_on:
                    is_passed_on = True
                    for child, _, _ in running.values():
                        child.send_signal(stop[0])
                time.sleep(_POLL)
                for fold, (child, device, log_begins) in list(running.items()):
                    if child.poll() is None:
                        continue
                    child.communicate()  # closes its standard input
                    del running[fold]
                    free.append(device)
                    if child.returncode == 0:
                        logging.info("fold %d is trained", fold)
                    elif not stop:
                        said = _last_words(_log(workdir, fold), log_begins, child.returncode)
                        failed.append(f"fold {fold}: {said}")
                        logging.error("%s", failed[-1])
        finally:
            for child, _, _ in running.values():  # where this process fails by itself
                child.terminate()
                child.communicate()
    if stop:
        name = signal.Signals(stop[0]).name
        raise StoppedError(
            f"stopped by {name}; what the folds reached is saved, the same command goes on", stop[0]
        )
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise SkinjaxError(f"{failed[0]}{more}; the same command goes on with what is not trained")


def _gpus() -> list[Device]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        try:
            listed = subprocess.run(
                ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False
            ).stdout
        except (OSError, subprocess.TimeoutExpired):
            return []
        numbers = range(sum(line.startswith("GPU ") for line in listed.splitlines()))
        visible = ",".join(map(str, numbers))
    names = []
    for name in filter(None, map(str.strip, visible.split(","))):
        if name == "-1":  # hides itself and what follows
            break
        names.append(name)
    # Without the platform's name, a JAX that lacks CUDA would train on the CPU.
    cuda = {"JAX_PLATFORMS": "cuda"}
    return [Device(f"GPU {name}", {**cuda, "CUDA_VISIBLE_DEVICES": name}) for name in names]


def _cores(count: int) -> list[Device]:
    """The CPU in `count` shares; with fewer cores than that they aren't bound to any."""
    if not hasattr(os, "sched_getaffinity"):  # macOS
        return [Device("the CPU")] * (count or os.cpu_count() or 1)
    cores = sorted(os.sched_getaffinity(0))
    count = count or len(cores)
    return [Device(f"CPU share {i}", cores=tuple(cores[i::count])) for i in range(count)]


def _start(workdir: Path, fold: int, device: Device) -> "subprocess.Popen[bytes]":
    log = _log(workdir, fold)
    logging.info("fold %d trains on %s; its log is %s", fold, device.name, log)
    with log.open("ab") as output:
        return subprocess.Popen(
            _command(workdir, fold, device),
            env={**os.environ, **device.environment},
            stdin=subprocess.PIPE,  # its end tells the child that this process is gone
            stdout=output,
            stderr=output,
            start_new_session=True,  # a terminal's Ctrl-C comes once, from here
        )


def _log(workdir: Path, fold: int) -> Path:
    return workdir / f"fold_{fold}.log"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _command(workdir: Path, fold: int, device: Device) -> list[str]:
    cores = ",".join(map(str, device.cores))
    return [sys.executable, "-m", "skinjax.fold_processes", str(workdir), str(fold), cores]


@contextlib.contextmanager
def _noted_signals() -> Iterator[list[int]]:
    """Gives a list that gets the number of the first SIGTERM or SIGINT."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # Python delivers signals to the main thread only
        return

    def handle(signum: int, frame: FrameType | None) -> None:
        del frame
        received.append(signum)
        signal.signal(signum, signal.SIG_DFL)  # a second one ends this process as it would have
        logging.warning("%s: the folds save and stop", signal.Signals(signum).name)

    before = {signum: signal.signal(signum, handle) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _last_words(path: Path, begin: int, code: int) -> str:
    """What a child that ended with `code` said last, in its log from byte `begin` on."""
    lines = path.read_bytes()[begin:].decode(errors="replace").strip().splitlines()
    if code < 0:
        name = signal.Signals(-code).name
        return f"its process was ended by {name}, see {path}"
    said = lines[-1].removeprefix("skinjax: ") if lines else f"exit code {code}"
    return f"{said} (log: {path})"


def _main(arguments: Sequence[str]) -> int:
    """A child: trains one fold; returns the exit code, as the command line does."""
    workdir, fold, cores = Path(arguments[0]), int(arguments[1]), arguments[2]
    if cores:  # before JAX counts them for its threads
        os.sched_setaffinity(0, [int(core) for core in cores.split(",")])
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    from skinjax import config as config_lib
    from skinjax import console, cross_validation, parallel
    from skinjax import workdir as workdir_lib

    console.log_to_stderr()
    try:
        config = config_lib.load_config(workdir_lib.config_path(workdir))
        config.parallel.update(num_devices=1, cpu_devices=1)
        parallel.initialize(config.parallel)
        _check_platform()
        cross_validation.train_fold(config, workdir, fold)
    except StoppedError as error:
        return _fail(error, 128 + error.signum)
    except SkinjaxError as error:
        return _fail(error, 1)
    except OSError as error:
        return _fail(describe_system_error(error), 1)
    return 0


def _check_platform() -> None:
    """Raises InputError if JAX lacks what the parent named, which fails obscurely elsewhere."""
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # an assertion where no plugin is found
        said = next(iter(str(error).splitlines()), "CUDA is missing or can't be loaded")
        raise InputError(
            f"JAX can't use {os.environ.get('JAX_PLATFORMS', 'any device')} ({said}): install"
            " skinjax[cuda], or set JAX_PLATFORMS=cpu to train on the CPU"
        ) from None


def _stop_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):  # not `read`, whose lock Python waits for at its end
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _fail(message: Any, code: int) -> int:
    print(f"skinjax: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
