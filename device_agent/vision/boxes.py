"""Geometry of many boxes at once. Pure numpy; boxes are float32 (N, 4): left, top, right, bottom in pixels."""

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


def areas(boxes: FloatArray) -> FloatArray:
    """Area of each box (N,), 0 for boxes turned inside out."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], np.float32(0))
    product: FloatArray = sides[:, 0] * sides[:, 1]
    return product


def intersections(first: FloatArray, second: FloatArray) -> FloatArray:
    """Area that each pair shares, (N, M)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = np.maximum(high - low, np.float32(0))
    product: FloatArray = sides[:, :, 0] * sides[:, :, 1]
    return product


def iou(first: FloatArray, second: FloatArray) -> FloatArray:
    """Intersection over union of each pair, (N, M), 0 where a box is empty."""
    shared = intersections(first, second)
    union = areas(first)[:, None] + areas(second)[None, :] - shared
    result: FloatArray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return result


def contained(first: FloatArray, second: FloatArray) -> FloatArray:
    """How much of the smaller box of each pair lies in the larger one, (N, M), 0..1."""
    shared = intersections(first, second)
    smaller = np.minimum(areas(first)[:, None], areas(second)[None, :])
    result: FloatArray = np.divide(shared, smaller, out=np.zeros_like(shared), where=smaller > 0)
    return result


def to_centres(boxes: FloatArray) -> FloatArray:
    """Boxes as centre x, centre y, width, height, (N, 4)."""
    result = np.empty_like(boxes)
    result[:, :2] = (boxes[:, :2] + boxes[:, 2:]) * np.float32(0.5)
    result[:, 2:] = boxes[:, 2:] - boxes[:, :2]
    return result


def from_centres(centres: FloatArray) -> FloatArray:
    """The inverse of `to_centres`."""
    half = centres[:, 2:] * np.float32(0.5)
    result = np.empty_like(centres)
    result[:, :2] = centres[:, :2] - half
    result[:, 2:] = centres[:, :2] + half
    return result


def centre_distance(first: FloatArray, second: FloatArray) -> FloatArray:
    """Distance of centres of each pair of (x, y, w, h), (N, M), in body sizes: the mean of both widths and heights."""
    gap = first[:, None, :2] - second[None, :, :2]
    size = (first[:, 2] + first[:, 3])[:, None] + (second[:, 2] + second[:, 3])[None, :]
    result: FloatArray = np.hypot(gap[:, :, 0], gap[:, :, 1]) / np.maximum(size * np.float32(0.25), np.float32(1e-3))
    return result


def size_ratio(first: FloatArray, second: FloatArray) -> FloatArray:
    """Smaller area over larger area of each pair of (x, y, w, h), (N, M), 0..1."""
    one = np.maximum(first[:, 2] * first[:, 3], np.float32(1e-3))[:, None]
    two = np.maximum(second[:, 2] * second[:, 3], np.float32(1e-3))[None, :]
    result: FloatArray = np.minimum(one, two) / np.maximum(one, two)
    return result


def greedy_pairs(score: FloatArray, least: float) -> list[tuple[int, int]]:
    """Pairs (row, column) taken best score first, each row and column once, none below `least`."""
    rows, columns = np.nonzero(score >= least)
    if len(rows) == 0:
        return []
    order = np.argsort(-score[rows, columns], kind="stable")
    taken_rows: set[int] = set()
    taken_columns: set[int] = set()
    pairs = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in taken_rows and column not in taken_columns:
            taken_rows.add(row)
            taken_columns.add(column)
            pairs.append((row, column))
    return pairs


def assignment(cost: npt.NDArray[np.floating[Any]], limit: float) -> list[tuple[int, int]]:
    """Pairs (row, column) of least total cost, each row and column once; to stay alone costs `limit`, so no pair costs more.

    Shortest augmenting paths with potentials (Kuhn 1955, Jonker and Volgenant 1987); O(rows² × columns), one numpy sweep a step.
    """
    turned = cost.shape[0] > cost.shape[1]
    price = np.minimum(np.asarray(cost.T if turned else cost, np.float64), limit)
    rows, columns = price.shape
    if rows == 0 or not np.any(price < limit):
        return []
    row_of = np.full(columns + 1, -1)
    row_potential, column_potential = np.zeros(rows), np.zeros(columns + 1)
    for row in range(rows):
        row_of[columns] = row
        _augment(price, row_of, row_potential, column_potential)
    pairs = [(int(row_of[column]), column) for column in range(columns) if row_of[column] >= 0]
    pairs = [(row, column) for row, column in pairs if price[row, column] < limit]
    return sorted((column, row) for row, column in pairs) if turned else sorted(pairs)


def _augment(price: npt.NDArray[np.float64], row_of: npt.NDArray[np.int_], row_potential: npt.NDArray[np.float64],
             column_potential: npt.NDArray[np.float64]) -> None:  # fmt: skip
    """Find a place for the row that waits in the last, imaginary column, moving others along a cheapest path."""
    columns = price.shape[1]
    best = np.full(columns, np.inf)
    before = np.full(columns, columns)
    done = np.zeros(columns + 1, np.bool_)
    column = columns
    while row_of[column] >= 0:
        done[column] = True
        row = row_of[column]
        slack = price[row] - row_potential[row] - column_potential[:columns]
        better = ~done[:columns] & (slack < best)
        best[better], before[better] = slack[better], column
        open_best = np.where(done[:columns], np.inf, best)
        following = int(open_best.argmin())
        step = open_best[following]
        row_potential[row_of[done]] += step
        column_potential[done] -= step
        best[~done[:columns]] -= step
        column = following
    while column != columns:
        row_of[column] = row_of[before[column]]
        column = int(before[column])
    row_of[columns] = -1
