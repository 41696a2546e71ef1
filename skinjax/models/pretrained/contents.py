"""What a file of weights really holds, whatever its name says."""

from pathlib import Path

from skinjax.errors import InputError

_HDF5 = b"\x89HDF\r\n\x1a\n"
_STARTS = {
    _HDF5: "an HDF5 file",
    b"PK\x03\x04": "a zip archive, as torch.save and Keras 3 write",
    b"\x1f\x8b": "a gzip archive",
    b"version https://git-lfs": "a Git LFS pointer in place of the file (git lfs pull fetches it)",
    b"<": "an HTML or XML page, as a server sends where it doesn't send the file",
}
# Pickle protocols 2 to 5 begin with their number.
_STARTS |= {bytes([0x80, protocol]): "a pickle" for protocol in range(2, 6)}

# What takes pickle or runs code to be opened.
PICKLED = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle")


def check_exists(path: Path) -> None:
    """Raises an InputError where `path` is no file that can be read, or is empty."""
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise InputError(
            f"{path} can't be read ({error.strerror}); pass the path of a .safetensors or .h5 file "
            "as --config.model.pretrained"
        ) from None
    if empty:
        raise InputError(f"{path} is empty; download it again")


def check_hdf5(path: Path) -> None:
    """Raises an InputError where `path` isn't HDF5 by its first bytes."""
    check_exists(path)
    start = _start(path)
    if not start.startswith(_HDF5):
        seen = _kind(start) or "something else"
        raise InputError(f"{path} should be HDF5, as Keras writes, but is {seen}; {_remedy(start)}")


def check_safetensors(path: Path) -> None:
    """Raises an InputError where `path` is of another known kind than safetensors."""
    check_exists(path)
    start = _start(path)
    seen = _kind(start)
    # A safetensors file begins with the length of its header, whose first byte may be anything,
    # and goes on with the header, whose first byte is a brace.
    if seen and start[8:9] != b"{":
        raise InputError(f"{path} should be safetensors, but is {seen}; {_remedy(start)}")


def refuse_pickle(path: Path) -> None:
    """Raises an InputError that says how to convert a file that PyTorch has pickled."""
    raise InputError(
        f"{path} is a pickle by its name, which can run code and is never opened here; convert it "
        'where torch and safetensors are installed, with python -c "import torch, safetensors.torch'
        " as s; s.save_file({k: v.contiguous().clone() for k, v in torch.load("
        f"'{path}', weights_only=True).items()}}, '{path.stem}.safetensors')\", and pass that file"
    )


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def _kind(start: bytes) -> str:
    if start.lstrip().startswith(b"<"):
        return _STARTS[b"<"]
    return next((kind for magic, kind in _STARTS.items() if start.startswith(magic)), "")


def _remedy(start: bytes) -> str:
    if start.startswith(_HDF5):
        return "give it the ending .h5"
    return "download it again, or pass the right file"
