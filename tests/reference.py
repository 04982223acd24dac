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


def psi_cosine(theta):
    turns = math.floor(theta / math.pi)
    return (-1) ** turns * math.cos(theta) - 2 * turns


def psi_linear(theta):
    return 1 - 2 * theta / math.pi


def psi_sigmoid(theta, k=0.3):
    top = 1 - math.exp(theta / k - math.pi / (2 * k))
    bottom = 1 + math.exp(theta / k - math.pi / (2 * k))
    half = math.exp(-math.pi / (2 * k))
    return (1 + half) / (1 - half) * top / bottom


def sphereface_psi(c, margin):
    """The polynomials in the cosine of SphereFace's own code: no angle, no floor."""
    sign = np.sign
    if margin == 2:
        return 2 * sign(c) * c**2 - 1
    if margin == 3:
        s1 = sign(abs(c) - 0.5)
        return s1 * (4 * c**3 - 3 * c) + sign(c) * (1 + s1) - 2
    s3 = sign(c) * sign(2 * c**2 - 1)
    return s3 * (8 * c**4 - 8 * c**2 + 1) + 2 * sign(c) + s3 - 3


def cross_entropy(logits, label):
    top = max(logits)
    return top + math.log(sum(math.exp(z - top) for z in logits)) - logits[label]


def softmax(logits, labels, label_smoothing=0.0, floor=0.0):
    logits = np.asarray(logits, np.float64)
    out = np.zeros(len(logits))
    for b, label in enumerate(np.asarray(labels)):
        p = np.exp(logits[b]) / np.exp(logits[b]).sum()
        for j, share in enumerate(p):
            target = (1 - label_smoothing) * (j == label) + label_smoothing / len(p)
            out[b] -= target * math.log(share + floor)
    return out


def margin_softmax(cos, labels, feature_norm, similarity, target=None):
    """One example, one class at a time; `target` maps a cosine to the response."""
    cos = np.asarray(cos, np.float64)
    out = np.zeros(len(cos))
    for b, label in enumerate(np.asarray(labels)):
        responses = [float(similarity(c)) for c in cos[b]]
        if target is not None:
            responses[label] = target(cos[b, label])
        length = float(np.ravel(feature_norm)[b])
        out[b] = cross_entropy([length * r for r in responses], label)
    return out


def ga_softmax(cos, labels, feature_norm, similarity, psi, margin, weight=1.0):
    """`psi` of the angle takes `weight` parts of the right class's response."""

    def target(c):
        theta = math.acos(min(max(c, -1), 1))
        return (1 - weight) * float(similarity(c)) + weight * psi(margin * theta)

    return margin_softmax(cos, labels, feature_norm, similarity, target)


def orthogonality(kernel):
    filters = np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1]).T
    total = 0.0
    for i, first in enumerate(filters):
        for j, second in enumerate(filters):
            total += (
                sum(a * b for a, b in zip(first, second, strict=True)) - (i == j)
            ) ** 2
    return total


def normal(*shape, seed=0):
    """Normal numbers, the same in every run; drawing them compiles nothing."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)
