"""Recipes with RBMs: alone, and under a belief net, on binarised MNIST."""

from gdm_course.recipes.settings import NLL, Metric, Public, Recipe

ANNEALED = Metric(NLL.name, "scale.energies.annealed_nll", "nats")
EFFECTIVE = Metric(
    "effective chains of 1,000", "scale.energies.effective_chains", "chains", lower=False
)
EXACT = Metric(NLL.name, "scale.energies.exact_nll", "nats")
BOUND = Metric("bound on the NLL", "scale.energies.bound_nll", "nats")
ON_TOP = Metric(EFFECTIVE.name, "scale.energies.effective_on_top", "chains", lower=False)
SETTINGS = {
    "unit": "energy/boltzmann",
    "model": "energy.rbm.PersistentRBM",
    "args": (784,),
    "data": "scale.data.binary_images",
    "data_args": ("binarized_mnist",),
    "begin": "scale.energies.at_means",
    "optimizer": "training.sgd",
    "ema": 0.999,
}
DEEP = SETTINGS | {
    "unit": "energy/belief_net",
    "model": "energy.dbn.TwoLayers",
    "begin": "scale.energies.on_an_rbm",
    "steps": 40_000,
    "batch": 500,
    "every": 40_000,
    "metrics": (BOUND, ON_TOP),
    "goal": 84.6,
    "public": Public("84.55", "DBN 500-2000, a bound; training time not told"),
    "device": "gpu",
    "minutes": 4,
}

RECIPES = (
    Recipe(
        name="energy/rbm-mnist-cpu",
        kwargs={"H": 500},
        steps=40_000,
        batch=50,
        every=40_000,  # each evaluation anneals 1,000 chains
        lr=0.15,
        weight_decay=2e-4,
        metrics=(ANNEALED, EFFECTIVE),
        goal=88.4,
        minutes=8,
        **SETTINGS,
    ),
    Recipe(
        name="energy/rbm16-mnist",
        kwargs={"H": 16},
        steps=7_000,
        every=1_000,
        lr=0.3,
        metrics=(EXACT,),
        goal=151.0,
        minutes=1,
        **SETTINGS,
    ),
    Recipe(
        name="energy/rbm-mnist",
        kwargs={"H": 500, "k": 5, "chains": 1000},
        steps=40_000,
        batch=500,
        every=40_000,
        lr=0.1,
        metrics=(ANNEALED, EFFECTIVE),
        goal=86.3,
        public=Public("86.34", "RBM, 500 hidden units, CD-25; training time not told"),
        device="gpu",
        minutes=4,
        priority=13,
        **SETTINGS,
    ),
    Recipe(
        name="energy/dbn-mnist",
        kwargs={"H": 500, "k": 5, "chains": 1000},
        lr=0.02,
        **DEEP,
    ),
    Recipe(
        name="energy/dbn500-mnist",
        kwargs={"H": 500, "top": 500, "k": 5, "chains": 1000},
        lr=0.05,
        **DEEP,
    ),
)
