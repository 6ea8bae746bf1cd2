"""Parts of a rate and mutual information, against plain loops and scikit-learn."""

from collections.abc import Iterator

import torch
from torch.distributions import Independent, Normal

from gdm_course.divergences import mmd2
from gdm_course.evaluation.disentanglement import discretise, information_matrix
from gdm_course.vae.beta_vae import log_aggregate, log_densities
from tests.benchmarks.harness import Ratio, compare, table


def aggregate(B: int = 128, K: int = 10) -> Ratio:
    """All log q(z) of a batch at once, against one code after the other."""
    g = torch.Generator().manual_seed(0)
    q = Independent(Normal(torch.randn(B, K, generator=g), 0.5), 1)
    z, own = q.mean + 0.1, torch.arange(B)

    def ours():
        return log_aggregate(log_densities(q, z), own, 1000)

    def loop():
        rows = [log_aggregate(log_densities(q, z[[i]]), own[[i]], 1000) for i in range(B)]
        return torch.cat(rows)

    torch.testing.assert_close(ours(), loop())
    return compare(f"log q(z_j) of {B} codes, K = {K}", ours, loop, "one by one", goal=5.0)


def information(N: int = 5000, K: int = 10) -> Ratio:
    """The matrix of mutual informations, against scikit-learn on the same bins."""
    from sklearn.metrics import mutual_info_score

    g = torch.Generator().manual_seed(0)
    factors = torch.randint(6, (N, 6), generator=g)
    z = torch.randn(N, K, generator=g) + factors[:, :1]

    def ours():
        return information_matrix(z, factors)

    def theirs():
        codes = discretise(z).numpy()
        pairs = [[mutual_info_score(c, v) for v in factors.numpy().T] for c in codes.T]
        return torch.tensor(pairs, dtype=torch.float64)

    torch.testing.assert_close(ours(), theirs())
    return compare(f"MI of {K} codes, 6 factors", ours, theirs, "scikit-learn", goal=1.0)


def distance(N: int = 256, K: int = 10) -> Ratio:
    """MMD^2 by a product of matrices, against all pairwise differences."""
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(N, K, generator=g), torch.randn(N, K, generator=g)

    def pairs(a, b):
        return torch.exp(-(a[:, None] - b).square().sum(-1) / 20)

    def plain():
        within = [(pairs(a, a).sum() - N) / (N * (N - 1)) for a in (x, y)]
        return sum(within) - 2 * pairs(x, y).mean()

    ours = lambda: mmd2(x, y, 10**0.5)  # noqa: E731
    torch.testing.assert_close(ours(), plain(), rtol=1e-3, atol=1e-5)
    return compare(f"MMD of {N} codes, K = {K}", ours, plain, "all differences", goal=1.0)


def ratios() -> Iterator[Ratio]:
    """All comparisons of the unit vae/beta_vae."""
    yield aggregate()
    yield information()
    yield distance()


if __name__ == "__main__":
    print(table(list(ratios())))
