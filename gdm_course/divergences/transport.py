"""The cheapest way to carry one sample to another, exact: a plan, and what proves it.

Matching n points with n points at the least cost has a dual: prices u of the rows and v of
the columns with u_i + v_j <= cost_ij everywhere, whose sum is as large as it can be. Both
optima are equal, so that the prices prove that the plan is the cheapest.
"""

import numpy as np
import torch
from torch import Tensor

from gdm_course import validate


def assignment(cost: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Match every row with a column of its own, at the least total cost.

    Row by row: a path of alternating matched and unmatched pairs, the shortest one in the
    costs that the prices leave over, ends in a free column. Takes about n^3 operations.

    Args:
        cost: (n, n), finite.

    Returns:
        The column of each row (n,), and prices u and v (n,) with u_i + v_j <= cost_ij and
        equality in the matched pairs, so that sum u + sum v is the total cost. In float64.

    References:
        Kuhn (1955), The Hungarian method for the assignment problem. Jonker and Volgenant
        (1987), A shortest augmenting path algorithm for dense and sparse linear
        assignment problems.
    """
    if cost.ndim != 2 or len(cost) != cost.shape[1] or not cost.isfinite().all():
        raise ValueError(
            f"cost has shape {tuple(cost.shape)}: expected a square table (n, n) of finite "
            "numbers; take equally many points of both samples"
        )
    C, n = cost.detach().cpu().double().numpy(), len(cost)
    u, v, row_of = np.zeros(n), np.zeros(n + 1), np.full(n + 1, -1)
    for i in range(n):
        row_of[n] = i  # column n does not exist: where the path begins
        _extend(C, u, v, row_of)
    columns = np.argsort(row_of[:n])
    return torch.from_numpy(columns), torch.from_numpy(u), torch.from_numpy(v[:n])


def _extend(C: np.ndarray, u: np.ndarray, v: np.ndarray, row_of: np.ndarray) -> None:
    """Match one row more, in place: the row that column n stands for."""
    n, j = len(C), len(C)
    rest, before = np.full(n, np.inf), np.full(n, n)
    done = np.zeros(n + 1, dtype=bool)
    while row_of[j] >= 0:  # until a column is free
        done[j] = True
        row = row_of[j]
        left_over = C[row] - u[row] - v[:n]
        nearer = ~done[:n] & (left_over < rest)
        rest[nearer], before[nearer] = left_over[nearer], j
        j = int(np.where(done[:n], np.inf, rest).argmin())
        step = rest[j]
        u[row_of[done]] += step
        v[done] -= step
        rest -= step
    while j != n:  # exchange the pairs along the path
        row_of[j] = row_of[before[j]]
        j = before[j]


def exact_w1(x: Tensor, y: Tensor) -> Tensor:
    """W_1 between two samples of equal size: the mean distance in the cheapest matching.

    Args:
        x, y: (n, D) each. The time grows as n^3: about a second for 500.

    Returns:
        A scalar in the unit of x. Between samples of one law it is not 0: it is biased
        upwards, in many dimensions by much.
    """
    x = validate.points(x, "D")
    y = validate.points(y, x.shape[1], x, name="y")
    cost = torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist")
    columns, _, _ = assignment(cost)
    return cost.gather(1, columns.to(cost.device)[:, None]).mean().to(x.dtype)
