"""Recipes of the unit flows/maf: a spline flow for each toy density; TarFlow on images.

Times of recipes for a GPU are estimates by `python -m gdm_course.scale.cost`.
"""

from gdm_course.recipes.settings import Metric, Public, Recipe

KL = Metric("KL(truth || model)", "evaluation.likelihood.kl_to_truth", "nats")
BATCH = 512
MORE = {"grid": 6000}  # steps, where 2,500 are too few: 25 heaps with gaps between them
SMOOTH = ("eight_gaussians", "ring", "two_moons", "pinwheel", "spirals", "grid")
SMOOTH += ("banana", "funnel")
EDGES = ("checkerboard", "word", "face")  # squares, whose edges are a few hundredths wide


def recipe(toy: str) -> Recipe:
    """Make the recipe of one toy density; every step draws new points from the truth."""
    steps = MORE.get(toy, 2500)
    return Recipe(
        name=f"flows/spline-{toy.replace('_', '-')}",
        unit="flows/maf",
        model="flows.spline.SplineFlow",
        args=(2,),
        data="scale.points.toy_points",
        data_args=(toy, steps * BATCH),
        steps=steps,
        batch=BATCH,
        lr=5e-3,
        ema=0.995,
        every=500,
        metrics=(KL,),
        goal=0.02 if toy in SMOOTH else None,
        minutes=1,
    )


BOUND = Metric("bound, 1 draw", "evaluation.bounds.bound_bits", "bits/dim")
TIGHT = Metric("bound, 8 draws", "evaluation.bounds.tight_bits", "bits/dim")
TARFLOW = {"unit": "flows/maf", "model": "flows.tarflow.DequantisedTarFlow"}
PATCHES = (
    # Trained with labels; the figure is of p(x), the mean over all ten.
    Recipe(
        name="flows/tarflow-digits",
        args=((1, 8, 8), 17),
        kwargs={"alpha": 0.01, "layers": 3, "width": 32, "depth": 1, "classes": 10},
        data="scale.pictures.labelled_codes",
        data_args=("digits",),
        steps=4800,
        batch=32,
        lr=1e-2,
        warmup=200,
        clip=10.0,
        ema=0.99,
        every=800,
        minutes=1.5,
        metrics=(TIGHT,),
        **TARFLOW,
    ),
    # Without labels: with them p(x) is a mean of ten densities, ten times the work. The
    # network may round: whatever numbers it says of the past, the density is exact.
    # 1,478 operations: 10.3 ms to send, 11.7 to do. 15,000 steps are 38 epochs in 200 s.
    Recipe(
        name="flows/tarflow-mnist",
        args=((1, 28, 28), 256),
        kwargs={"alpha": 1e-3, "patch": 2, "layers": 6, "width": 128, "depth": 3},
        data="scale.data.image_codes",
        data_args=("mnist",),
        begin="scale.pictures.equalised",
        steps=15_000,
        batch=128,
        lr=2e-3,
        warmup=300,
        clip=100.0,
        ema=0.999,
        every=2500,
        precision="bf16-mixed",
        goal=1.02,
        stretch=0.98,
        public=Public("1.020", "Glow, 1.7 million parameters, up to 200 epochs (uvadlc)"),
        device="gpu",
        minutes=4,
        priority=23,
        metrics=(BOUND, TIGHT),
        aim=1,
        **TARFLOW,
    ),
)

RECIPES = (*(recipe(toy) for toy in (*SMOOTH, *EDGES)), *PATCHES)
