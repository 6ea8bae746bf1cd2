"""Recipes of GPT on tiny Shakespeare, character by character.

Others report the loss on the last tenth of the file, after training on all before it; in
windows whose first character is given. We measure on the same tenth but train on the first
85 percent, let the 5 between choose the weights, and count first characters too.

Times of recipes for a GPU are estimates by `python -m gdm_course.scale.cost`.
"""

from gdm_course.recipes.settings import Metric, Public, Recipe

UNIT = "nats per character"
SHAKESPEARE = {
    "unit": "autoregressive/gpt",
    "model": "autoregressive.gpt.GPT",
    "data": "scale.data.text_windows",
    "optimizer": "optimisers.muon.muon",
    "weight_decay": 0.1,
    "metrics": (
        Metric("code length in blocks", "evaluation.likelihood.block_nll", UNIT),
        Metric("the same, half a block known", "evaluation.likelihood.stream_nll", UNIT),
    ),
}

RECIPES = (
    # 1,162 GFLOP and 13 GB written: 21 ms. 3,000 steps of 64 windows of 256 characters
    # are 49 epochs in 75 s; more would learn the plays by heart.
    Recipe(
        name="autoregressive/gpt-shakespeare",
        args=(65, 256),
        kwargs={"layers": 6, "heads": 6, "width": 384, "dropout": 0.2},
        data_args=("shakespeare", 256),
        steps=3000,
        batch=64,
        lr=5e-3,
        warmup=100,
        every=250,
        patience=4,
        precision="bf16-mixed",
        goal=1.47,
        stretch=1.44,
        public=Public("1.4697", "nanoGPT, 10.7 million parameters; 3 min of an A100"),
        device="gpu",
        minutes=2,
        priority=5,
        **SHAKESPEARE,
        keep=False,  # 10 million weights are more than a repository should carry
    ),
    Recipe(
        name="autoregressive/gpt-shakespeare-cpu",
        args=(65, 128),
        kwargs={"layers": 4, "heads": 4, "width": 128},
        data_args=("shakespeare", 128),
        steps=1600,
        batch=16,
        lr=1e-2,
        warmup=100,
        every=400,
        goal=1.60,
        minutes=3,
        **SHAKESPEARE,
    ),
)
