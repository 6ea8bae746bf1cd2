#: why = "one cell with everything, written as a script"
#: expect = "SOME: wasserstein_1d js_divergence"
#: base = "nothing"
# %%
"""My answers."""
from __future__ import annotations

import torch
from torch import *
from gdm_course import *
from gdm_course.training import *


class Sorted:
    def __init__(self, x: Later):
        self.x = x.sort().values


class Sorted(Sorted):
    def __sub__(self, other: Sorted):
        return self.x - other.x


def wasserstein_1d(x: Tensor, y: Tensor, k: float) -> Tensor:
    return ((Sorted(x) - Sorted(y)).abs() ** k).mean() ** (1 / k)


async def slowly():
    return log(tensor(2.0))


if __name__ == "__main__":
    log_2 = await slowly()

	

def js_divergence(p, q, dx):
	m = logaddexp(p, q) - log_2
	return sum(p.exp() * (p - m) + q.exp() * (q - m)) * dx / 2


if __name__ == "__main__":
    print(js_divergence(zeros(3), zeros(3), 1.0))
    raise SystemExit

# %%
"""only a docstring"""
