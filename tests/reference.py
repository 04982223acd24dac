"""Slow, obvious float64 NumPy versions. Imports nothing of the package."""

import itertools
import math

import numpy as np


def same_pads(size, window, stride, dilation):
    reach = (window - 1) * dilation + 1
    out = -(-size // stride)
    total = max((out - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def patches(x, window, strides, padding, input_dilation, kernel_dilation):
    """Yields (output position, patch of shape (batch, *window, features))."""
    x = np.asarray(x, np.float64)
    rank = x.ndim - 2
    for axis in range(rank):  # zeros between the pixels
        size = x.shape[axis + 1]
        shape = list(x.shape)
        shape[axis + 1] = (size - 1) * input_dilation[axis] + 1
        wide = np.zeros(shape)
        where = [slice(None)] * x.ndim
        where[axis + 1] = slice(None, None, input_dilation[axis])
        wide[tuple(where)] = x
        x = wide
    if padding == "SAME":
        padding = [
            same_pads(x.shape[a + 1], window[a], strides[a], kernel_dilation[a])
            for a in range(rank)
        ]
    elif padding == "VALID":
        padding = [(0, 0)] * rank
    x = np.pad(x, [(0, 0), *padding, (0, 0)])
    counts = [
        (x.shape[a + 1] - (window[a] - 1) * kernel_dilation[a] - 1) // strides[a] + 1
        for a in range(rank)
    ]
    for position in itertools.product(*map(range, counts)):
        where = [slice(None)]
        for axis in range(rank):
            start = position[axis] * strides[axis]
            stop = start + (window[axis] - 1) * kernel_dilation[axis] + 1
            where.append(slice(start, stop, kernel_dilation[axis]))
        yield position, counts, x[(*where, slice(None))]


def cosine(c):
    return c


def linear(c):
    return 1 - 2 * np.arccos(np.clip(c, -1, 1)) / np.pi


def sigmoid(c, k=0.3):
    theta = np.arccos(np.clip(c, -1, 1))
    top = 1 - np.exp(theta / k - np.pi / (2 * k))
    bottom = 1 + np.exp(theta / k - np.pi / (2 * k))
    half = np.exp(-np.pi / (2 * k))
    return (1 + half) / (1 - half) * top / bottom


def sphere_conv(
    x,
    kernel,
    similarity=cosine,
    strides=None,
    padding="SAME",
    input_dilation=None,
    kernel_dilation=None,
    groups=1,
    eps=1e-2,
    mask=None,
):
    """One filter, one patch, one cosine at a time."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    rank, filters = x.ndim - 2, kernel.shape[-1]
    ones = (1,) * rank
    per_group = kernel.shape[-2]
    mask = np.ones_like(kernel) if mask is None else np.asarray(mask, np.float64)
    out = None
    for position, counts, patch in patches(
        x,
        kernel.shape[:rank],
        strides or ones,
        padding,
        input_dilation or ones,
        kernel_dilation or ones,
    ):
        if out is None:
            out = np.zeros((x.shape[0], *counts, filters))
        for f in range(filters):
            group = f // (filters // groups)
            seen = (
                patch[..., group * per_group : (group + 1) * per_group] * mask[..., f]
            )
            for b in range(x.shape[0]):
                v, w = seen[b].ravel(), (kernel * mask)[..., f].ravel()
                lengths = math.sqrt(w @ w + eps**2) * math.sqrt(v @ v + eps**2)
                out[(b, *position, f)] = similarity(w @ v / lengths)
    return out


def patch_norm(x, window, strides, padding, kernel_dilation, groups, eps):
    out = None
    x = np.asarray(x, np.float64)
    per_group = x.shape[-1] // groups
    for position, counts, patch in patches(
        x, window, strides, padding, (1,) * len(window), kernel_dilation
    ):
        if out is None:
            out = np.zeros((x.shape[0], *counts, groups))
        for g in range(groups):
            for b in range(x.shape[0]):
                v = patch[b][..., g * per_group : (g + 1) * per_group].ravel()
                out[(b, *position, g)] = math.sqrt(v @ v + eps**2)
    return out
