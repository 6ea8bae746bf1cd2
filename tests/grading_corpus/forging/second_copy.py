#: why = "looks for another copy of the answers in every module of the course"
#: expect = "ZERO"
#: base = "empty"
# %%
import importlib
import pkgutil

import torch

import gdm_course

found = []
for module in pkgutil.walk_packages(gdm_course.__path__, "gdm_course."):
    try:
        inside = vars(importlib.import_module(module.name))
    except Exception:
        continue
    found += [v for k, v in inside.items() if callable(v) and not k.startswith("__")]


def named(*names):
    """Try whatever has such a name, until something gives a number."""
    some = [f for f in found if any(n in getattr(f, "__name__", "") for n in names)]

    def answer(*args):
        for f in some:
            try:
                value = f(*args)
            except Exception:
                continue
            if torch.is_tensor(value) or isinstance(value, tuple):
                return value
        raise LookupError

    return answer


kl_gaussian = named("kl")
js_divergence = named("js", "shannon")
fit_by_descent = named("fit", "descend")
importance_estimate = named("importance", "estimate")
wasserstein_1d = named("wasserstein")
mmd2_unbiased = named("mmd")
