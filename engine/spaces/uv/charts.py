# SPDX-License-Identifier: Apache-2.0
"""Which UV chart a triangle belongs to, so that a lookup never reads the neighbouring chart."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from .screen import uv_areas


def chart_ids(triangle_uvs: np.ndarray) -> np.ndarray:
    """Label i32[F]: triangles that share a UV point are on one chart."""
    points, inverse = np.unique(triangle_uvs, return_inverse=True)
    corner = inverse.reshape(triangle_uvs.shape)
    rows = np.concatenate([corner[:, 0], corner[:, 1]])
    columns = np.concatenate([corner[:, 1], corner[:, 2]])
    graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(len(points),) * 2)
    label = connected_components(graph, directed=False)[1]
    return label[corner[:, 0]].astype(np.int32)


def owner_charts(charts: np.ndarray, corners: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Charts after a chart stacked on another (mirrored UVs) takes the name of the chart that owns its texels.

    charts: i32[F]; corners: f32[F,3,2] uv; owner: i32[T,T] triangle that owns each texel, -1 none.
    A stacked chart's pixels then read the owner's texels, which is what the finished texture will show there.
    """
    size = len(owner)
    centre = np.floor(corners.mean(1) * size).astype(np.int64)
    column, row = centre[:, 0] % size, (size - 1 - centre[:, 1]) % size
    found = owner[row, column]
    area = uv_areas(corners)
    count = int(charts.max()) + 1 if len(charts) else 0
    voting = found >= 0
    votes = coo_matrix((area[voting], (charts[voting], charts[found[voting]])), shape=(count, count)).tocsr()
    winner = np.arange(count)
    total = np.asarray(votes.sum(1)).ravel()
    best = np.asarray(votes.argmax(1)).ravel()
    most = np.asarray(votes.max(1).todense()).ravel()
    taken = most > 0.5 * total
    winner[taken] = best[taken]
    return winner[charts].astype(np.int32)
