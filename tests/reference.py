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


def squared_cosine(c):
    return np.sign(c) * c * c


def sharpened_cosine(c, p, q=0.0, norm=None, floor=1e-6):
    if norm is not None:
        c = c * norm / (norm + q)
    return np.clip(np.sign(c) * (np.abs(c) + floor) ** p, -1, 1)


# Magnitudes: of a patch's length and a radius.
MAGNITUDES = {
    "Sphere": lambda norm, radius, alpha=1.0: alpha,
    "Linear": lambda norm, radius, alpha=1.0: alpha * norm,
    "Ball": lambda norm, radius, alpha=1.0: alpha * min(norm, radius) / radius,
    "Tanh": lambda norm, radius, alpha=1.0: alpha * math.tanh(norm / radius),
    "Log": lambda norm, radius, alpha=1.0: alpha * math.log(1 + norm),
    "Segment": lambda norm, radius, alpha=1.0, beta=0.5: (
        alpha * norm if norm <= radius else beta * norm + alpha * radius - beta * radius
    ),
    "Mix": lambda norm, radius, alpha=1.0, beta=1.0: (
        alpha * norm + beta * math.log(1 + norm)
    ),
}


def decoupled_conv(
    x,
    kernel,
    magnitude,
    similarity=cosine,
    radius=1.0,
    *,
    weighted=False,
    strides=None,
    padding="SAME",
    input_dilation=None,
    kernel_dilation=None,
    groups=1,
    eps=1e-2,
    mask=None,
):
    """One filter, one patch, one cosine and one length at a time."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    rank, filters = x.ndim - 2, kernel.shape[-1]
    ones = (1,) * rank
    per_group = kernel.shape[-2]
    mask = np.ones_like(kernel) if mask is None else np.asarray(mask, np.float64)
    radii = np.broadcast_to(np.asarray(radius, np.float64), (filters,))
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
                norm, size = math.sqrt(v @ v + eps**2), math.sqrt(w @ w + eps**2)
                h = magnitude(norm, radii[f]) * (size if weighted else 1)
                out[(b, *position, f)] = h * similarity(w @ v / (size * norm))
    return out


def sphere_conv(x, kernel, similarity=cosine, **options):
    """The magnitude is one; `options` are those of `decoupled_conv`."""
    return decoupled_conv(x, kernel, lambda norm, radius: 1.0, similarity, **options)


def conv_transpose(
    x,
    kernel,
    similarity=cosine,
    strides=None,
    padding="SAME",
    kernel_dilation=None,
    *,
    transpose_kernel=False,
    eps=1e-2,
    mask=None,
):
    """Zeros put between the pixels, then padded, then a convolution of stride one."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    mask = np.ones_like(kernel) if mask is None else np.asarray(mask, np.float64)
    rank = x.ndim - 2
    strides, dilation = strides or (1,) * rank, kernel_dilation or (1,) * rank
    if transpose_kernel:
        turn = (slice(None, None, -1),) * rank
        kernel, mask = (np.swapaxes(a[turn], -1, -2) for a in (kernel, mask))
    pairs = [] if isinstance(padding, str) else list(padding)
    for axis in range(rank):
        size, s = x.shape[axis + 1], strides[axis]
        shape = list(x.shape)
        shape[axis + 1] = (size - 1) * s + 1
        wide = np.zeros(shape)
        for i in range(size):
            np.moveaxis(wide, axis + 1, 0)[i * s] = np.moveaxis(x, axis + 1, 0)[i]
        x = wide
        if isinstance(padding, str):
            reach = (kernel.shape[axis] - 1) * dilation[axis] + 1
            # The answer's side, and how many of its pixels lie before the input's.
            side = size * s + (max(reach - s, 0) if padding == "VALID" else 0)
            total = side - shape[axis + 1] + reach - 1
            low = reach - 1
            if padding == "SAME":
                low = min(low, (total + 1) // 2)
            pairs.append((low, total - low))
    return sphere_conv(
        x,
        kernel,
        similarity,
        padding=pairs,
        kernel_dilation=dilation,
        eps=eps,
        mask=mask,
    )


def max_abs_pool(x, window, strides, padding="VALID"):
    """Of each window the entry largest in size; of two, the positive one."""
    x = np.asarray(x, np.float64)
    rank = x.ndim - 2
    if padding == "SAME":
        padding = [
            same_pads(x.shape[a + 1], window[a], strides[a], 1) for a in range(rank)
        ]
    elif padding == "VALID":
        padding = [(0, 0)] * rank
    x = np.pad(x, [(0, 0), *padding, (0, 0)], constant_values=np.nan)
    counts = [(x.shape[a + 1] - window[a]) // strides[a] + 1 for a in range(rank)]
    out = np.zeros((x.shape[0], *counts, x.shape[-1]))
    for index in np.ndindex(out.shape):
        where = [index[0]]
        for a in range(rank):
            start = index[a + 1] * strides[a]
            where.append(slice(start, start + window[a]))
        seen = x[(*where, index[-1])].ravel()
        out[index] = max(seen[~np.isnan(seen)], key=lambda v: (abs(v), v))
    return out


def cosine_attention(query, key, value, scale, bias=None, mask=None, eps=1e-2):
    """One batch entry, one head, one query at a time; weights come second."""
    query, key, value = (np.asarray(a, np.float64) for a in (query, key, value))
    batch, queries, heads, _ = query.shape
    keys, per_group = key.shape[1], heads // key.shape[2]
    weights = np.zeros((batch, heads, queries, keys))
    out = np.zeros((batch, queries, heads, value.shape[-1]))
    for b, h, i in np.ndindex(batch, heads, queries):
        q, g = query[b, i, h], h // per_group
        logits = np.zeros(keys)
        for j in range(keys):
            k = key[b, j, g]
            lengths = math.sqrt(q @ q + eps**2) * math.sqrt(k @ k + eps**2)
            logits[j] = scale[h] * (q @ k) / lengths
        if bias is not None:
            logits += np.broadcast_to(bias, weights.shape)[b, h, i]
        if mask is not None:
            hidden = ~np.broadcast_to(np.asarray(mask, bool), weights.shape)[b, h, i]
            logits[hidden] = -np.inf
        share = np.exp(logits - logits.max())
        weights[b, h, i] = share / share.sum()
        out[b, i, h] = weights[b, h, i] @ value[b, :, g]
    return out, weights


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
