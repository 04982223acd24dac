"""The quickstart's test accuracy over seeds 0, 1 and 2, as JSON."""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
SEEDS = (0, 1, 2)


def run(seed: int) -> dict:
    """One run in a process of its own, as a user starts it."""
    with tempfile.TemporaryDirectory() as workdir:
        subprocess.run(
            [
                sys.executable,
                str(ROOT / "train.py"),
                f"--config={ROOT / 'configs' / 'quickstart.py'}",
                f"--workdir={workdir}",
                f"--config.seed={seed}",
            ],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return json.loads((pathlib.Path(workdir) / "result.json").read_text())


def main() -> None:
    """Prints every seed's result, and the mean."""
    results = [run(seed) for seed in SEEDS]
    accuracies = [result["test_accuracy"] for result in results]
    summary = {
        "seeds": SEEDS,
        "test_accuracy": accuracies,
        "mean": round(statistics.mean(accuracies), 4),
        "seconds": [result["seconds"] for result in results],
        "device": results[0]["device"],
        "versions": results[0]["versions"],
    }
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
