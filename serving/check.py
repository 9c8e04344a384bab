"""Does an exported SavedModel answer as it did when it was exported?

    python -m serving.check runs/x/exposure_parity/serving/retriever/1

loads it in a process that has nothing but TensorFlow (and ScaNN, where it is needed), asks it the
warm-up requests and compares with the answers stored at the export.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np

EXPECTED_FILE = "expected.json"
"""A list of `{"signature", "inputs", "outputs"}`, each input and output a nested list by name."""


def check_in_fresh_process(version_dir: pathlib.Path) -> None:
    """Runs this module as a program of its own.

    Args:
        version_dir: Folder of one exported version.

    Raises:
        RuntimeError: The SavedModel cannot be loaded, or answers otherwise than at the export;
            the message holds what the program printed.
    """
    # As a file and not as a module of this package, which would load the other rooms.
    program = "import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    folder = str(pathlib.Path(version_dir).resolve())
    result = subprocess.run(
        [sys.executable, "-c", program, __file__, folder], capture_output=True, text=True
    )
    if result.returncode:
        raise RuntimeError(
            f"{version_dir}: the exported model failed its check in a fresh process.\n"
            f"{result.stdout}{result.stderr}"
        )


def find_differences(version_dir: pathlib.Path) -> list[str]:
    """Replays the stored requests.

    Args:
        version_dir: Folder of one exported version.

    Returns:
        One sentence for every output that is not what was stored; empty if all is well. Numbers
        may differ by rounding, strings may not.
    """
    import tensorflow as tf

    metadata = json.loads((version_dir / "metadata.json").read_text(encoding="utf-8"))
    if metadata["requires_scann_ops"]:
        import scann  # noqa: F401  (registers the ops)
    model = tf.saved_model.load(str(version_dir))
    differences = []
    exchanges = json.loads((version_dir / EXPECTED_FILE).read_text(encoding="utf-8"))
    for number, exchange in enumerate(exchanges):
        signature = model.signatures[exchange["signature"]]
        specs = signature.structured_input_signature[1]
        inputs = {n: tf.constant(v, specs[n].dtype) for n, v in exchange["inputs"].items()}
        outputs = signature(**inputs)
        for name, expected in exchange["outputs"].items():
            if not _is_same(outputs[name].numpy(), expected):
                differences.append(
                    f"Request {number} to `{exchange['signature']}`: `{name}` is not what it was "
                    "at the export."
                )
    return differences


def _is_same(answer: np.ndarray, expected: list[Any]) -> bool:
    if answer.dtype == object:
        return np.char.decode(answer.astype(bytes), "utf-8").tolist() == expected
    stored = np.asarray(expected, dtype=answer.dtype)
    return stored.shape == answer.shape and np.allclose(answer, stored, rtol=1e-4, atol=1e-5)


def main() -> int:
    """Returns the exit code: 0 if all is well, 1 if answers differ, 2 on wrong usage."""
    if len(sys.argv) != 2:
        print("usage: python -m serving.check SAVED_MODEL_DIR", file=sys.stderr)
        return 2
    differences = find_differences(pathlib.Path(sys.argv[1]))
    print("\n".join(differences) or "The answers are those of the export.")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
