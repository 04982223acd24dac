"""How well conditioned one filter's learning is, spherical and plain, as JSON.

python benchmarks/conditioning.py
python benchmarks/conditioning.py --source=tfds:NAME --data_dir=DIR --plot=FILE.png

Gradient descent on a quadratic loss of a filter's answers goes by the Gauss-Newton
matrix J'J / n, with J the slopes of its answers to n patches: the largest eigenvalue
bounds the rate, the others say how fast each direction is learned. A spherical filter
does not learn its length: its spectrum is that on the tangent plane. A plain one has
all directions, and, to tell what comes of leaving one out, those of the same plane.
Patches are those of images, of images whose contrast was drawn anew (a factor exp(z), z
normal), and of what a random layer of 16 filters with batch normalization and ReLU
makes of them.
Filters are random, and the same for every operator.
"""

import argparse
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hypersphere import data, ops

jax.config.update("jax_enable_x64", True)  # small eigenvalues

OPERATORS: dict[str, Any] = {
    "plain": None,
    "plain, on the plane": None,
    "cosine": ops.Cosine(),
    "linear": ops.Linear(),
    "sigmoid": ops.Sigmoid(),
}
EPS = 1e-2


def patches(images: jax.Array, count: int, seed: int) -> jax.Array:
    """Some 3x3 patches of images, (count, 9 * features)."""
    found = jax.lax.conv_general_dilated_patches(
        jnp.moveaxis(images, -1, 1), (3, 3), (1, 1), "VALID"
    )
    rows = jnp.moveaxis(found, 1, -1).reshape(-1, found.shape[1])
    return rows[np.random.default_rng(seed).permutation(len(rows))[:count]]


def layer(images: jax.Array, seed: int) -> jax.Array:
    """A random plain layer with batch normalization and ReLU."""
    shape = (3, 3, images.shape[-1], 16)
    kernel = jax.random.normal(jax.random.key(seed), shape, images.dtype)
    numbers = ("NHWC", "HWIO", "NHWC")
    answer = jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=numbers
    )
    mean, std = answer.mean((0, 1, 2)), answer.std((0, 1, 2))
    return jax.nn.relu((answer - mean) / std)


def spectrum(name: str, rows: jax.Array, filter_: jax.Array) -> np.ndarray:
    """Eigenvalues of a filter's Gauss-Newton matrix, the largest first."""
    similarity = OPERATORS[name]
    answers: Callable[[jax.Array], jax.Array] = lambda w: rows @ w  # noqa: E731
    if similarity is not None:
        answers = lambda w: ops.sphere_dense(  # noqa: E731
            rows, w[:, None], similarity=similarity, eps=EPS
        )[:, 0]
    slopes = jax.jacfwd(answers)(filter_)
    if name != "plain":  # the directions at right angles to the filter
        basis = jnp.linalg.qr(jnp.column_stack([filter_, jnp.eye(len(filter_))]))[0]
        slopes = slopes @ basis[:, 1 : len(filter_)]
    return np.linalg.svd(np.asarray(slopes), compute_uv=False) ** 2 / len(rows)


def row(name: str, where: str, spectra: np.ndarray) -> dict[str, Any]:
    """Medians over filters, and the range, of what a spectrum comes to."""
    condition = spectra[:, 0] / spectra[:, -1]
    over_mean = spectra[:, 0] / spectra.mean(1)
    return {
        "operator": name,
        "patches": where,
        "condition": float(f"{np.median(condition):.3g}"),
        "condition_range": [float(f"{f(condition):.3g}") for f in (np.min, np.max)],
        "largest_over_mean": float(f"{np.median(over_mean):.3g}"),
    }


def plot(spectra: dict[str, dict[str, np.ndarray]], path: pathlib.Path) -> None:
    """The spectra, each divided by its largest eigenvalue, medians over filters."""
    from hypersphere.viz import PALETTE, save
    from hypersphere.viz._style import new_figure, panel_title, plain_axes

    caption = "eigenvalues of J'J / n over the largest, medians over filters"
    figure = new_figure(3.2 * len(spectra), 3.0, title="", caption=caption)
    panels = figure.subplots(1, len(spectra), squeeze=False)[0]
    for axes, (where, found) in zip(panels, spectra.items(), strict=True):
        plain_axes(axes)
        panel_title(axes, where)
        for color, (name, values) in zip(PALETTE, found.items(), strict=False):
            relative = np.median(values / values[:, :1], 0)
            axes.semilogy(
                np.linspace(0, 1, len(relative)), relative, color=color, label=name
            )
        axes.set_xticks([0, 1], ["first", "last"])
    panels[0].legend(frameon=False, fontsize=7)
    save(figure, path)


def main() -> None:
    """Prints one row per operator and kind of patches."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", default="mnist5k")
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--patches", type=int, default=10_000)
    parser.add_argument("--filters", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", metavar="PNG", help="the spectra as a picture")
    options = parser.parse_args()

    draw = np.random.default_rng(options.seed)
    found = data.load(options.source, data_dir=options.data_dir).train
    images = (jnp.asarray(found.images[: options.images], float) - 127.5) / 128
    contrast = jnp.exp(draw.normal(size=(len(images), 1, 1, 1)))
    kinds = {
        "images": images,
        "contrast drawn": images * contrast,
        "second layer": layer(images, options.seed),
    }
    spectra: dict[str, dict[str, np.ndarray]] = {}
    for where, seen in kinds.items():
        rows = patches(seen, options.patches, options.seed)
        filters = draw.normal(size=(options.filters, rows.shape[1]))
        spectra[where] = {
            name: np.stack([spectrum(name, rows, w) for w in filters])
            for name in OPERATORS
        }
    shown = ("source", "images", "patches", "filters", "seed")
    made = {key: vars(options)[key] for key in shown}
    made["rows"] = [
        row(name, where, values)
        for where, found in spectra.items()
        for name, values in found.items()
    ]
    print(json.dumps(made, indent=1))
    if options.plot:
        plot(spectra, pathlib.Path(options.plot))


if __name__ == "__main__":
    main()
