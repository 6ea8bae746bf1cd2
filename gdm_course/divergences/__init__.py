"""How far apart two distributions are, by what one has: densities, or only samples.

- `densities`: KL, reverse KL, JS, total variation, any f-divergence, by quadrature;
- `estimates`: the same by Monte Carlo, with a standard error; importance sampling;
- `samples`: Wasserstein on the line and MMD in any dimension, without any density;
- `transport`: the cheapest matching of two samples, exact, and the prices that prove it.

Numbered equations are those of the lecture foundations/densities.
"""

from gdm_course.divergences.densities import (
    f_divergence,
    grid,
    js,
    kl,
    reverse_kl,
    total_variation,
)
from gdm_course.divergences.estimates import (
    Estimate,
    effective_sample_size,
    importance,
    js_estimate,
    kl_estimate,
    monte_carlo,
    total_variation_estimate,
)
from gdm_course.divergences.samples import (
    gaussian_kernel,
    median_distance,
    mmd2,
    mmd2_density,
    wasserstein_1d,
    wasserstein_1d_cdf,
)
from gdm_course.divergences.transport import assignment, exact_w1

__all__ = [
    "Estimate",
    "assignment",
    "effective_sample_size",
    "exact_w1",
    "f_divergence",
    "gaussian_kernel",
    "grid",
    "importance",
    "js",
    "js_estimate",
    "kl",
    "kl_estimate",
    "median_distance",
    "mmd2",
    "mmd2_density",
    "monte_carlo",
    "reverse_kl",
    "total_variation",
    "total_variation_estimate",
    "wasserstein_1d",
    "wasserstein_1d_cdf",
]
