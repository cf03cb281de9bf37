# SPDX-License-Identifier: Apache-2.0
"""Do borders show? The colour jump across a border over the change of colour right beside it, at the same spacing.

Four points lie in a line across each place of a border, B2 B1 | A1 A2: B1 and A1 as far from the border as each other,
A2 as far behind A1, and B2 behind B1, as A1 and B1 are apart in space. The ratio is the sum of |A1 - B1| over the sum
of the means of |A2 - A1| and |B2 - B1|: 1 where the border is like any other place, 1 + J / g for a jump J where colour
changes by g over that spacing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from engine.mesh import Mesh
from engine.raster.texels import TexelMap

SPACING = 2.0  # texels between A1 and B1, over the surface
EVERY = 1.0  # texels between two places on a border
MOST = 400_000  # places, evenly thinned
SLACK = 0.3  # of the spacing, by which a point found in the UV map may miss where it should be in space
SAME = 1e-5  # of the mesh's extent: vertices this near are one
FOLD = 0.35  # of the spacing: folds so sharp that A1 and B1 are nearer than this are left out
LEVEL = 0.5 / 255  # added above and below per place: a file of 8 bits knows no smaller differences
SMOOTH = 0.95  # of the spacing: A1 and B1 farther apart than this lie on a surface that hardly bends
FEWEST = 30  # places that a ratio needs


@dataclass(frozen=True)
class Seams:
    """`K` places on chart borders of one UV map: rows and columns, in texels, of the points in a line across each."""

    points: np.ndarray  # f32[K,4,2] B2, B1, A1, A2
    touch: np.ndarray  # f32[K,2,2] the place itself, seen from chart B and from chart A
    smooth: np.ndarray  # bool[K] the surface bends by less than 36 degrees there


def ratio(lines: np.ndarray) -> float | None:
    """The ratio for colours f32[K,4,C] of B2, B1, A1, A2; None for fewer than 30 places."""
    if len(lines) < FEWEST:
        return None
    b2, b1, a1, a2 = lines.astype(np.float64).transpose(1, 0, 2)
    jump = np.linalg.norm(a1 - b1, axis=1)
    beside = (np.linalg.norm(a2 - a1, axis=1) + np.linalg.norm(b2 - b1, axis=1)) / 2
    return float((jump.mean() + LEVEL) / (beside.mean() + LEVEL))


def chart_ratio(texture: np.ndarray, seams: Seams, among: np.ndarray | None = None) -> float | None:
    """The ratio across chart borders of a texture f32[T,T,3]; with `among` bool[T,T], only where all four points lie
    between such texels."""
    points = seams.points
    if among is not None:
        points = points[(lookup(among[..., None].astype(np.float32), points) > 0.999).all((1, 2))]
    return ratio(lookup(texture, points))


def smooth_ratio(texture: np.ndarray, seams: Seams) -> float | None:
    """The ratio across chart borders where the surface hardly bends, and so no change of colour is expected."""
    return ratio(lookup(texture, seams.points[seams.smooth]))


def chart_step(texture: np.ndarray, seams: Seams) -> float | None:
    """Mean distance in RGB (0..1) between the two colours that a border itself shows, one from each chart."""
    if not len(seams.touch):
        return None
    pair = lookup(texture, seams.touch)
    return float(np.linalg.norm(pair[:, 0] - pair[:, 1], axis=1).mean())


def owner_ratio(colour: np.ndarray, texels: TexelMap, owner: np.ndarray) -> float | None:
    """The ratio, at a spacing of one texel, where the view that counts most changes from `owner` i16[M] to another.

    colour: f32[M,3]. Four texels in a row or column inside one chart: two of one owner, then two of another.
    """
    size = texels.size
    slot = np.full((size, size), -1, np.int64)
    slot.reshape(-1)[texels.index[~texels.border]] = np.flatnonzero(~texels.border)
    lines = []
    for grid in (slot, slot.T):
        four = np.stack([grid[:, k : size - 3 + k] for k in range(4)], -1).reshape(-1, 4)
        four = four[(four >= 0).all(1)]
        own = owner[four]
        four = four[(own >= 0).all(1) & (own[:, 0] == own[:, 1]) & (own[:, 2] == own[:, 3]) & (own[:, 1] != own[:, 2])]
        gaps = np.linalg.norm(np.diff(texels.position[four], axis=1), axis=2)
        lines.append(four[gaps.max(1, initial=0) < 1.5 * gaps.min(1, initial=np.inf)])  # one chart, evenly spaced
    return ratio(colour[thinned(np.concatenate(lines))])


def find_seams(mesh: Mesh, texels: TexelMap) -> Seams:
    """Places along all edges where two triangles meet in space but not in the UV map.

    Points beside an edge are found by continuing the triangle's own map into UV, and kept if the surface is there, in
    the same chart as far as its texels tell: within 30 % of the spacing.
    """
    size = texels.size
    where = np.full((size, size, 3), np.nan, np.float32)
    where.reshape(-1, 3)[texels.index] = texels.position
    edges = seam_edges(mesh)
    if not len(edges):
        return Seams(np.zeros((0, 4, 2), np.float32), np.zeros((0, 2, 2), np.float32), np.zeros(0, bool))
    one, other = Side.of(mesh, edges[:, :2], size), Side.of(mesh, edges[:, 2:], size).turned()
    steps = np.clip(np.ceil(np.maximum(one.length, other.length) / EVERY), 1, 10_000).astype(np.int64)
    edge = np.repeat(np.arange(len(edges)), steps)
    part = (np.arange(len(edge)) - np.repeat(np.cumsum(steps) - steps, steps) + 0.5) / steps[edge]
    order = thinned(np.arange(len(edge)))
    edge, part = edge[order], part[order, None]
    texel = np.maximum(one.texel, other.texel)[edge]
    near = [side.beside(edge, part, SPACING / 2 * texel) for side in (other, one)]
    gap = np.linalg.norm(near[1][1] - near[0][1], axis=1)
    far = [side.beside(edge, part, SPACING / 2 * texel + gap) for side in (other, one)]
    good = gap > FOLD * SPACING * texel
    for uv, expected in (*near, *far):
        found = lookup(where, uv[:, None])[:, 0]
        off = np.linalg.norm(found - expected, axis=1)
        good &= np.nan_to_num(off, nan=np.inf) < SLACK * SPACING * texel
    points = np.stack([far[0][0], near[0][0], near[1][0], far[1][0]], 1)[good].astype(np.float32)
    touch = np.stack([side.beside(edge, part, 0 * texel)[0] for side in (other, one)], 1)[good].astype(np.float32)
    return Seams(points, touch, (gap > SMOOTH * SPACING * texel)[good])


@dataclass(frozen=True)
class Side:
    """One triangle beside each of E border edges, as seen from the edge. UV in texels: row, column."""

    start: np.ndarray  # f64[E,3] world
    end: np.ndarray
    inward: np.ndarray  # f64[E,3] unit, in the triangle's plane, away from the edge
    uv_start: np.ndarray  # f64[E,2]
    uv_end: np.ndarray
    uv_inward: np.ndarray  # f64[E,2] per unit of world length along `inward`

    @classmethod
    def of(cls, mesh: Mesh, chosen: np.ndarray, size: int) -> Side:
        """chosen: i64[E,2], triangle and the corner its edge starts from."""
        triangle, corner = chosen.T
        order = (corner[:, None] + np.arange(3)) % 3
        a, b, c = np.take_along_axis(
            mesh.positions[mesh.triangles[triangle]].astype(np.float64), order[..., None], 1
        ).transpose(1, 0, 2)
        uv = np.take_along_axis(mesh.uvs[mesh.triangle_uvs[triangle]].astype(np.float64), order[..., None], 1)
        p, q, r = (np.stack([(1 - uv[:, k, 1]) * size - 0.5, uv[:, k, 0] * size - 0.5], 1) for k in range(3))
        along = b - a
        share = ((c - a) * along).sum(1, keepdims=True) / (along**2).sum(1, keepdims=True)
        height = c - (a + share * along)
        length = np.maximum(np.linalg.norm(height, axis=1, keepdims=True), 1e-30)
        return cls(a, b, height / length, p, q, (r - (p + share * (q - p))) / length)

    @property
    def length(self) -> np.ndarray:
        """Of the edges in the UV map, f64[E] texels."""
        return np.linalg.norm(self.uv_end - self.uv_start, axis=1)

    @property
    def texel(self) -> np.ndarray:
        """How large a texel is across the edge, f64[E] world units."""
        return 1 / np.maximum(np.linalg.norm(self.uv_inward, axis=1), 1e-30)

    def turned(self) -> Side:
        """The same with start and end exchanged: neighbours run along their common edge in opposite directions."""
        return Side(self.end, self.start, self.inward, self.uv_end, self.uv_start, self.uv_inward)

    def beside(self, edge: np.ndarray, part: np.ndarray, away: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Row and column f64[K,2], and place in the world f64[K,3], of points `away` from `part` 0..1 of the edges."""
        away = away[:, None]
        uv = self.uv_start[edge] * (1 - part) + self.uv_end[edge] * part + away * self.uv_inward[edge]
        place = self.start[edge] * (1 - part) + self.end[edge] * part + away * self.inward[edge]
        return uv, place


def seam_edges(mesh: Mesh) -> np.ndarray:
    """i64[E,4]: triangle and first corner on either side of each edge that two triangles share in space but not in the
    UV map. Edges of one triangle, or of three and more, are no seams."""
    extent = max(float((mesh.positions.max(0) - mesh.positions.min(0)).max()), 1e-30)
    _, place = np.unique(np.rint(mesh.positions / (SAME * extent)), axis=0, return_inverse=True)
    place = place.reshape(-1)[mesh.triangles]
    triangle, corner = np.divmod(np.arange(3 * len(place)), 3)
    first, second = place[triangle, corner], place[triangle, (corner + 1) % 3]
    key = np.minimum(first, second) * (int(place.max()) + 1) + np.maximum(first, second)
    order = np.argsort(key, kind="stable")
    _, begin, count = np.unique(key[order], return_index=True, return_counts=True)
    begin = begin[count == 2]
    a, b = order[begin], order[begin + 1]
    corners = mesh.uvs[mesh.triangle_uvs]
    start_a, end_a = corners[triangle[a], corner[a]], corners[triangle[a], (corner[a] + 1) % 3]
    start_b, end_b = corners[triangle[b], corner[b]], corners[triangle[b], (corner[b] + 1) % 3]
    opposite = first[a] == second[b]
    start_b, end_b = (np.where(opposite[:, None], *pair) for pair in ((end_b, start_b), (start_b, end_b)))
    apart = (np.abs(start_a - start_b).max(1) > 1e-5) | (np.abs(end_a - end_b).max(1) > 1e-5)
    apart &= opposite & (first[a] != second[a])
    return np.stack([triangle[a], corner[a], triangle[b], corner[b]], 1)[apart]


def lookup(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Bilinear values f32[K,P,C] of an image f32[T,T,C] at rows and columns f32[K,P,2]; its border repeats."""
    flat = points.reshape(-1, 2).T
    values = [map_coordinates(image[..., k], flat, order=1, mode="nearest") for k in range(image.shape[2])]
    return np.stack(values, -1).reshape(*points.shape[:2], image.shape[2])


def thinned(rows: Sequence | np.ndarray) -> np.ndarray:
    """At most `MOST` of the rows, evenly."""
    return rows[:: 1 + len(rows) // MOST]
