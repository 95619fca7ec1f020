"""The network of Ho et al. (2019) and its training in plain numpy, to compare speed with."""

from __future__ import annotations

from typing import Any

import numpy as np

Weights = dict[str, tuple[np.ndarray, np.ndarray]]
LAYERS = ("VelocityConv_0", "VelocityConv_1", "Dense_0", "Dense_1", "output")
POOL = 4


def as_numpy(params: Any) -> Weights:
    """Kernels and biases by layer, copied."""
    return {
        name: tuple(np.array(params[name][one]) for one in ("kernel", "bias")) for name in LAYERS
    }


def forward(
    weights: Weights, images: np.ndarray, keep: np.ndarray | None = None
) -> tuple[np.ndarray, list[Any]]:
    """Outputs of shape ``(batch,)``, and what `backward` needs.

    Args:
        weights: of the layers.
        images: shape ``(batch, velocities, radii)``.
        keep: factors of the features after pooling (dropout), or None.
    """
    x, memory = images, []
    for name in LAYERS[:2]:
        kernel, bias = weights[name]
        columns = _columns(x, len(kernel))
        x = np.maximum(columns @ kernel.reshape(-1, kernel.shape[-1]) + bias, 0)
        memory.append((columns, x))
    blocks = x.reshape(len(x), -1, POOL, x.shape[2])
    first = blocks.argmax(axis=2)[:, :, None]
    x = np.take_along_axis(blocks, first, axis=2).reshape(len(x), -1)
    x = x if keep is None else x * keep
    memory.append((first, blocks.shape))
    for name in LAYERS[2:]:
        kernel, bias = weights[name]
        y = x @ kernel + bias
        y = y if name == "output" else np.maximum(y, 0)
        memory.append((x, y))
        x = y
    return x[:, 0], memory


def backward(
    weights: Weights, memory: list[Any], slope: np.ndarray, keep: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Gradients by layer of a loss with this slope of the outputs, shape ``(batch,)``."""
    found, back = {}, slope[:, None]
    for name, (x, y) in zip(LAYERS[:1:-1], memory[:2:-1], strict=True):
        back = back if name == "output" else back * (y > 0)
        found[name] = (x.T @ back, back.sum(axis=0))
        back = back @ weights[name][0].T
    first, shape = memory[2]
    spread = np.zeros(shape, back.dtype)
    pooled = (back * keep).reshape(first.shape)
    np.put_along_axis(spread, first, pooled, axis=2)
    back = spread.reshape(shape[0], -1, shape[3])
    for name, (columns, y) in zip(LAYERS[1::-1], memory[1::-1], strict=True):
        kernel = weights[name][0]
        back = (back * (y > 0)).reshape(-1, kernel.shape[-1])
        flat = columns.reshape(len(back), -1)
        found[name] = ((flat.T @ back).reshape(kernel.shape), back.sum(axis=0))
        if name == LAYERS[0]:
            break
        taps = (back @ kernel.reshape(-1, kernel.shape[-1]).T).reshape(
            *columns.shape[:2], len(kernel), -1
        )
        half, length = len(kernel) // 2, columns.shape[1]
        wide = np.zeros((len(columns), length + 2 * half, taps.shape[3]), taps.dtype)
        for i in range(len(kernel)):
            wide[:, i : i + length] += taps[:, :, i]
        back = wide[:, half : half + length]
    return found


def epoch(
    weights: Weights, images: np.ndarray, targets: np.ndarray, learning: Any, dropout: float
) -> np.ndarray:
    """Adam through all images and their mirror images once; changes the weights in place.

    Returns:
        The mean loss.
    """
    rng = np.random.default_rng(0)
    num = len(images)
    order = rng.permutation(2 * num)
    moments = {
        name: [np.zeros_like(one) for one in (*layer, *layer)] for name, layer in weights.items()
    }
    losses = []
    for step in range(2 * num // learning.batch):
        rows = order[step * learning.batch : (step + 1) * learning.batch]
        batch = images[rows % num]
        batch = np.where((rows < num)[:, None, None], batch, batch[:, ::-1])
        size = weights["Dense_0"][0].shape[0]
        keep = (rng.random((len(batch), size), np.float32) >= dropout) / np.float32(1 - dropout)
        output, memory = forward(weights, batch, keep)
        error = (output - targets[rows % num]).astype(np.float32)
        losses.append(np.mean(error**2))
        gradient = backward(weights, memory, 2 * error / len(error), keep)
        rate = learning.learning_rate / (1 + learning.decay * step)
        for name, layer in weights.items():
            for i, (weight, slope) in enumerate(zip(layer, gradient[name], strict=True)):
                mean, square = moments[name][i], moments[name][i + 2]
                mean += 0.1 * (slope - mean)
                square += 0.001 * (slope**2 - square)
                best = mean / (1 - 0.9 ** (step + 1))
                weight -= rate * best / (np.sqrt(square / (1 - 0.999 ** (step + 1))) + 1e-8)
            if name != "output" and learning.max_norm is not None:
                norm = np.sqrt((layer[0] ** 2).sum(axis=0, keepdims=True))
                layer[0][:] *= np.minimum(norm, learning.max_norm) / (1e-7 + norm)
    return np.mean(losses)


def _columns(x: np.ndarray, width: int) -> np.ndarray:
    """Windows along velocity, zeros beyond: shape ``(batch, length, width * channels)``."""
    half = width // 2
    wide = np.pad(x, ((0, 0), (half, half), (0, 0)))
    return np.concatenate([wide[:, i : i + x.shape[1]] for i in range(width)], axis=2)
