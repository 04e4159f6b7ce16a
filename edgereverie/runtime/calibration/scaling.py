"""Scores to probabilities: logistic regression, Platt's scaling, temperature, isotonic regression. They carry no guarantee."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_STEPS = 100
_ENOUGH = 1e-12
_SURE = 1e-6  # p (1 - p) of the least sure item: where it is under this, weights only grow


def logistic(z: np.ndarray | float) -> np.ndarray:
    """1 / (1 + exp(-z)), without overflow.

    >>> logistic(np.array([0.0, -1000.0, 1000.0])).tolist()
    [0.5, 0.0, 1.0]
    """
    z = np.asarray(z, np.float64)
    small = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, small) / (1.0 + small)


def negative_log_likelihood(z: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Of each target in [0, 1] under the log-odds z, nats.

    >>> negative_log_likelihood(np.array([0.0]), np.array([1.0])).round(6).tolist()
    [0.693147]
    """
    return np.logaddexp(0.0, z) - targets * z


def fit_logistic(features: np.ndarray, targets: np.ndarray, l2: float = 0.0) -> tuple[np.ndarray, float]:
    """Weights and bias that minimise the summed negative log-likelihood + l2 / 2 |weights|^2, by Newton's method.

    features: (items, columns). targets: (items,) in [0, 1]. The bias is not penalised. Raises ValueError where no finite
    minimum exists: one class only, or classes that a plane separates while l2 is 0.
    """
    if not 0 < targets.mean() < 1:
        raise ValueError("Both right and wrong items are needed to tell them apart.")
    design = np.column_stack([features, np.ones(len(features))])
    penalty = np.full(design.shape[1], l2)
    penalty[-1] = 0.0
    weights = np.zeros(design.shape[1])
    loss = _loss(design, targets, penalty, weights)
    for _ in range(_STEPS):
        p = logistic(design @ weights)
        gradient = design.T @ (p - targets) + penalty * weights
        curvature = (design * (p * (1 - p))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.lstsq(curvature, gradient, rcond=None)[0]
        if l2 == 0 and float((p * (1 - p)).max()) < _SURE:
            break
        if gradient @ step < _ENOUGH * (1 + loss):
            return weights[:-1] - step[:-1], float(weights[-1] - step[-1])
        size = 1.0
        while (new := _loss(design, targets, penalty, weights - size * step)) > loss and size > 1e-10:
            size /= 2
        weights, loss = weights - size * step, new
    raise ValueError("The two classes are separated; without a penalty no finite weights fit them best.")


def _loss(design: np.ndarray, targets: np.ndarray, penalty: np.ndarray, weights: np.ndarray) -> float:
    return float(negative_log_likelihood(design @ weights, targets).sum() + 0.5 * penalty @ weights**2)


def platt(z: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Slope and offset of Platt's scaling, p = logistic(slope z + offset), with his smoothed targets (Platt 1999).

    A right item's target is (N+ + 1) / (N+ + 2), a wrong one's 1 / (N- + 2), so no data are ever separated for good.
    """
    positive = int(np.count_nonzero(right))
    targets = np.where(right, (positive + 1) / (positive + 2), 1 / (len(z) - positive + 2))
    slope, offset = fit_logistic(z[:, None], targets)
    return float(slope[0]), offset


def temperature(z: np.ndarray, right: np.ndarray) -> float:
    """The T whose logistic(z / T) makes the labels likeliest. Raises ValueError where no positive T is best."""
    cold = 1.0  # 1 / T
    for _ in range(_STEPS):
        p = logistic(cold * z)
        gradient, curvature = float(((p - right) * z).sum()), float((p * (1 - p) * z * z).sum())
        if curvature <= 0:
            break
        # No step takes 1 / T to less than half or more than double: the curvature is that of here alone.
        new = min(max(cold - gradient / curvature, cold / 2), cold * 2)
        if abs(new - cold) < _ENOUGH * cold:
            return 1.0 / new
        cold = new
    raise ValueError("No temperature fits: the scores separate right from wrong, or say nothing about them.")


@dataclass(frozen=True, slots=True)
class Steps:
    """A rising map: linear between its knots, level outside them."""

    x: tuple[float, ...]
    y: tuple[float, ...]

    def __call__(self, z: np.ndarray | float) -> np.ndarray:
        return np.interp(z, self.x, self.y)


def isotonic(z: np.ndarray, right: np.ndarray) -> Steps:
    """The rising map that fits the labels best in squares, by pooling adjacent violators (Ayer et al. 1955).

    Equal scores are one point. Each level is kept as its first and last score, and between levels the map is linear.
    """
    x, inverse, weight = np.unique(z, return_inverse=True, return_counts=True)
    mean = np.bincount(inverse, weights=np.asarray(right, np.float64)) / weight
    levels: list[list[float]] = []  # summed labels, weight, first and last index
    for index, (value, many) in enumerate(zip(mean * weight, weight, strict=True)):
        levels.append([value, many, index, index])
        while len(levels) > 1 and levels[-2][0] * levels[-1][1] >= levels[-1][0] * levels[-2][1]:
            value, many, _, last = levels.pop()
            levels[-1] = [levels[-1][0] + value, levels[-1][1] + many, levels[-1][2], last]
    knots = [
        (float(x[int(index)]), float(value / many))
        for value, many, first, last in levels
        for index in dict.fromkeys((first, last))
    ]
    return Steps(tuple(knot[0] for knot in knots), tuple(knot[1] for knot in knots))
