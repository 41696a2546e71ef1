"""What reads the files of an evaluation needs no JAX, whatever machine it runs on."""

import subprocess
import sys

_MODULES = (
    "metrics", "predictions", "calibration", "threshold", "assessment", "report", "plots",
    "comparison", "challenge.scoring", "class_mapping", "evaluated", "evaluation_files",
    "misclassified",
)  # fmt: skip


def test_what_needs_no_jax_imports_none() -> None:
    code = (
        f"import sys, {', '.join(f'skinjax.{name}' for name in _MODULES)}\n"
        "found = {'jax', 'flax', 'tensorflow', 'matplotlib.pyplot'} & set(sys.modules)\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
