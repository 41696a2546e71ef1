"""What a user waits for before anything is computed: help comes without JAX."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("arguments", [["--help"], ["predict", "--help"], ["train", "--help"]])
def test_help_imports_nothing_large(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from skinjax.main import main\n"
        "try:\n"
        f"    main({arguments})\n"
        "except SystemExit as ended:\n"
        "    assert ended.code == 0\n"
        "large = {'jax', 'flax', 'numpy', 'cv2', 'pandas', 'matplotlib', 'grain'}\n"
        "assert not large & set(sys.modules), large & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: skinjax" in done.stdout
