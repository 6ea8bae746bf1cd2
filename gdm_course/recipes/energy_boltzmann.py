"""Recipes of the unit energy/boltzmann: RBMs on binarised MNIST, by plain descent."""

from gdm_course.recipes.settings import NLL, Metric, Public, Recipe

ANNEALED = Metric(NLL.name, "scale.energies.annealed_nll", "nats")
EFFECTIVE = Metric(
    "effective chains of 1,000", "scale.energies.effective_chains", "chains", lower=False
)
EXACT = Metric(NLL.name, "scale.energies.exact_nll", "nats")
SETTINGS = {
    "unit": "energy/boltzmann",
    "model": "energy.rbm.PersistentRBM",
    "args": (784,),
    "data": "scale.data.binary_images",
    "data_args": ("binarized_mnist",),
    "optimizer": "training.sgd",
}

RECIPES = (
    Recipe(
        name="energy/rbm-mnist-cpu",
        kwargs={"H": 500},
        steps=15_000,
        every=15_000,  # each evaluation anneals 1,000 chains
        lr=0.1,
        metrics=(ANNEALED, EFFECTIVE),
        goal=88.4,
        minutes=5,
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
        name="energy/rbm-16-mnist-cpu",
        kwargs={"H": 16},
        steps=5000,
        lr=0.1,
        every=1000,
        metrics=(EXACT,),
        goal=151,
        minutes=1,
        **SETTINGS,
    ),
)
