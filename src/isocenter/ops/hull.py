"""The convex hull of a mask's surface, and bodies that enclose it."""

from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from isocenter.ops.compiled import compiled
from isocenter.types import Array, Float64, Points, Triple


@dataclass(frozen=True, eq=False)
class Hull:
    """A convex body: its corners (mm), volume and area, and the outward normals of its faces."""

    points: Float64[Array, "corners 3"]
    volume_mm3: float
    area_mm2: float
    normals: Float64[Array, "faces 3"]


def hull_of(mask: Array, spacing_mm: Triple) -> Hull:
    """The hull of the surface half-way between voxels of `mask` (d h w, with a margin) and those outside it."""
    from scipy.spatial import ConvexHull, QhullError

    ends = _row_ends(mask)
    ends = ends[_corners(ends)]
    with suppress(QhullError):  # all in one plane: every one of them may be a corner
        ends = ends[ConvexHull(ends, qhull_options="Qt Q0").vertices]  # Q0: faces that lie in one plane stay apart
    # The hull of the surface is the hull of the voxels' centres plus half a step each way that leads outside.
    points = _half_steps(mask, ends) * spacing_mm
    try:
        hull = ConvexHull(points, qhull_options="Qt Q0")
    except QhullError:
        hull = ConvexHull(points)
    return Hull(points[hull.vertices], float(hull.volume), float(hull.area), hull.equations[:, :3])


@compiled
def _half_steps(mask: Array, ends: Array) -> Array:
    """Places half-way from voxels of the mask, which has a margin, to their neighbours outside it."""
    out = np.empty((6 * len(ends), 3))
    n = 0
    for k in range(len(ends)):
        for axis in range(3):
            for side in (-1, 1):
                d, h, w = ends[k]
                d, h, w = d + side * (axis == 0), h + side * (axis == 1), w + side * (axis == 2)
                if not mask[d, h, w]:
                    out[n] = ends[k]
                    out[n, axis] += 0.5 * side
                    n += 1
    return out[:n]


@compiled
def _row_ends(mask: Array) -> Array:
    """First and last voxel of every row that has one, row by row."""
    depth, height, width = mask.shape
    out = np.empty((2 * depth * height, 3), np.int64)
    n = 0
    for d in range(depth):
        for h in range(height):
            first = -1
            last = -1
            for w in range(width):
                if mask[d, h, w]:
                    if first < 0:
                        first = w
                    last = w
            if first >= 0:
                out[n] = (d, h, first)
                out[n + 1] = (d, h, last)
                n += 2
    return out[:n]


@compiled
def _corners(ends: Array) -> Array:
    """Which row ends are corners of their slice's convex hull (monotone chain; whole numbers, so exact)."""
    keep = np.zeros(len(ends), np.bool_)
    begin = 0
    while begin < len(ends):
        stop = begin
        while stop < len(ends) and ends[stop, 0] == ends[begin, 0]:
            stop += 2
        for side in range(2):
            sign = 1 if side == 0 else -1
            chain = np.empty((stop - begin) // 2, np.int64)
            n = 0
            for at in range(begin + side, stop, 2):
                while n >= 2:
                    a, b = ends[chain[n - 2]], ends[chain[n - 1]]
                    c = ends[at]
                    if sign * ((b[1] - a[1]) * (c[2] - a[2]) - (b[2] - a[2]) * (c[1] - a[1])) <= 0:
                        n -= 1
                    else:
                        break
                chain[n] = at
                n += 1
            for k in range(n):
                keep[chain[k]] = True
        begin = stop
    return np.flatnonzero(keep)


@compiled
def diameter(points: Array) -> float:
    """Largest distance between two points."""
    most = 0.0
    for i in range(len(points)):
        x, y, z = points[i]
        for j in range(i):
            far = (points[j, 0] - x) ** 2 + (points[j, 1] - y) ** 2 + (points[j, 2] - z) ** 2
            most = max(most, far)
    return float(np.sqrt(most))


def oriented_box(hull: Hull) -> tuple[float, float]:
    """Volume and area of the smallest box that lies against a face of the hull.

    Source: the smallest box of a face's direction has an edge along the hull of the projection (H. Freeman and
    R. Shapira, CACM 18(7):409-413, 1975); J. O'Rourke's exact box can be smaller by touching edges only.
    """
    normals = np.unique(np.round(hull.normals * np.sign(hull.normals[:, :1] + 1e-12), 6), axis=0)
    best = _smallest_box(np.ascontiguousarray(hull.points), np.ascontiguousarray(normals))
    a, b, c = best
    return float(a * b * c), float(2 * (a * b + b * c + c * a))


@compiled
def _smallest_box(points: Array, normals: Array) -> Array:
    best = np.full(3, np.inf)
    flat = np.empty((len(points), 2))
    for n in range(len(normals)):
        up = normals[n] / np.sqrt((normals[n] ** 2).sum())
        helper = np.zeros(3)
        helper[np.argmin(np.abs(up))] = 1.0
        right = np.cross(up, helper)
        right /= np.sqrt((right**2).sum())
        front = np.cross(up, right)
        low, high = np.inf, -np.inf
        for i in range(len(points)):
            height = (points[i] * up).sum()
            low, high = min(low, height), max(high, height)
            flat[i, 0] = (points[i] * right).sum()
            flat[i, 1] = (points[i] * front).sum()
        chain = _chain(flat)
        for k in range(len(chain)):
            edge = flat[chain[(k + 1) % len(chain)]] - flat[chain[k]]
            length = np.sqrt((edge**2).sum())
            if length == 0.0:
                continue
            x, y = edge / length
            left, far, bottom, top = np.inf, -np.inf, np.inf, -np.inf
            for m in range(len(chain)):
                p = flat[chain[m]]
                along, across = p[0] * x + p[1] * y, p[1] * x - p[0] * y
                left, far = min(left, along), max(far, along)
                bottom, top = min(bottom, across), max(top, across)
            if (high - low) * (far - left) * (top - bottom) < best[0] * best[1] * best[2]:
                best[0], best[1], best[2] = high - low, far - left, top - bottom
    return best


@compiled
def _chain(flat: Array) -> Array:
    """Corners of the convex hull of points in the plane, in order."""
    order = np.argsort(flat[:, 0] + 1e-9 * flat[:, 1])
    out = np.empty(2 * len(flat), np.int64)
    n = 0
    for sweep in range(2):
        base = n
        for k in range(len(order)):
            at = order[k] if sweep == 0 else order[len(order) - 1 - k]
            while n - base >= 2:
                a, b, c = flat[out[n - 2]], flat[out[n - 1]], flat[at]
                if (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) <= 0:
                    n -= 1
                else:
                    break
            out[n] = at
            n += 1
        n -= 1  # the last one begins the other sweep
    return out[:n]


def enclosing_ellipsoid(points: Points, *, tolerance: float = 1e-3) -> Float64[Array, "3"]:
    """Semi-axes (longest first) of the smallest ellipsoid around `points`.

    Source: L. Khachiyan, Math. Oper. Res. 21(2):307-320, 1996, with the away steps of M. Todd and E. Yildirim,
    Discrete Appl. Math. 155:1731-1744, 2007; `tolerance` is on the volume's exponent.
    """
    weights = np.full(len(points), 1 / len(points))
    lifted = np.column_stack((points, np.ones(len(points))))
    for _ in range(20_000):
        inverse = np.linalg.inv(lifted.T @ (lifted * weights[:, None]))
        reach = np.einsum("ij,jk,ik->i", lifted, inverse, lifted)
        far = int(np.argmax(reach))
        near = int(np.argmin(np.where(weights > 0, reach, np.inf)))
        if reach[far] - 4 < 4 * tolerance and 4 - reach[near] < 4 * tolerance:
            break
        forward = reach[far] - 4 >= 4 - reach[near]
        at = far if forward else near
        step = (reach[at] - 4) / (4 * (reach[at] - 1))
        if not forward:
            step = max(step, -weights[at] / (1 - weights[at]))
        weights *= 1 - step
        weights[at] = max(0.0, weights[at] + step)
    centre = weights @ points
    spread = (points * weights[:, None]).T @ points - np.outer(centre, centre)
    away = points - centre
    scale = float(np.einsum("ij,jk,ik->i", away, np.linalg.inv(spread), away).max())  # so that all lie within
    return np.asarray(np.sqrt(scale * np.linalg.eigvalsh(spread))[::-1])
