"""What an image's Fourier phases say of it, and what its magnitudes do.

python results/fourier.py --source=tfds:NAME --data_dir=DIR --plot=results/fourier.png

Images are mixed in pairs: the phases of the first with the magnitudes of the second.
How like a mixture is to either is the correlation of its pixels with theirs.
"""

import argparse
import json
import pathlib
import sys
from typing import Any

import numpy as np

from hypersphere import data


def mixture(phases_of: np.ndarray, magnitudes_of: np.ndarray) -> np.ndarray:
    """The images (n, height, width, channels) with these phases and magnitudes."""
    phases = np.angle(np.fft.fft2(phases_of, axes=(1, 2)))
    magnitudes = np.abs(np.fft.fft2(magnitudes_of, axes=(1, 2)))
    return np.fft.ifft2(magnitudes * np.exp(1j * phases), axes=(1, 2)).real


def correlations(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of the pixels of each image with those of another, in [-1, 1]."""
    rows = [x.reshape(len(x), -1) for x in (one, other)]
    one, other = (x - x.mean(1, keepdims=True) for x in rows)
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(1) / norms


def plot(images: list[tuple[str, np.ndarray]], path: pathlib.Path) -> None:
    """A column a kind, a row a pair."""
    from hypersphere.viz import save
    from hypersphere.viz._style import bare_axes, new_figure, panel_title

    rows, columns = len(images[0][1]), len(images)
    figure = new_figure(1.7 * columns, 1.6 * rows + 0.3)
    grid = figure.subplots(rows, columns, squeeze=False)
    for column, (name, shown) in enumerate(images):
        panel_title(grid[0, column], name)
        for axes, image in zip(grid[:, column], shown, strict=True):
            bare_axes(axes)
            axes.imshow(np.clip(image / 255, 0, 1).squeeze(), cmap="gray")
    save(figure, path)


def main() -> None:
    """Prints the numbers as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", default="mnist5k")
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--shown", type=int, default=3)
    parser.add_argument("--plot", metavar="PNG")
    options = parser.parse_args()
    found = data.load(options.source, data_dir=options.data_dir).test
    images = np.asarray(found.images[: 2 * options.pairs], np.float64)
    first, second = images[0::2], images[1::2]
    mixed = mixture(first, second)
    made: dict[str, Any] = {"source": options.source, "pairs": len(mixed)}
    for name, whole in (("phases", first), ("magnitudes", second)):
        median = float(np.median(correlations(mixed, whole)))
        made[f"median_correlation_with_{name}"] = round(median, 3)
    sys.stdout.write(json.dumps(made) + "\n")
    if options.plot:
        kinds = ("gives phases", first), ("gives magnitudes", second), ("both", mixed)
        shown = [(name, images[: options.shown]) for name, images in kinds]
        plot(shown, pathlib.Path(options.plot))


if __name__ == "__main__":
    main()
