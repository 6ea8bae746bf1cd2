"""What a recipe is made of; importable without torch."""

import importlib
import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Metric:
    """One figure of a trained model.

    Attributes:
        name: as tables print it.
        function: dotted path of (model, split) -> Estimate(value, error).
        unit: of the value and of its standard error.
        lower: whether a lower value is better.
    """

    name: str
    function: str
    unit: str
    lower: bool = True


NLL = Metric("negative log-likelihood", "evaluation.likelihood.nll_estimate", "nats")
BITS = Metric(NLL.name, "evaluation.likelihood.bits_estimate", "bits/dim")


PRECISIONS = ("32-true", "bf16-mixed")
ONE_LOSS = "training.train"  # the loop of a model with one loss


@dataclass(frozen=True)
class Public:
    """The best figure that others published on the same data, and what it cost them.

    Attributes:
        figure: the value, and of what kind if that is not ours.
        cost: model and training, as far as they say.
    """

    figure: str
    cost: str


def fall(lr: float, done: float) -> float:
    """Return the learning rate when so much of its fall is done, 0 to 1: a cosine to 0."""
    return lr * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True, kw_only=True)
class Computation:
    """In which numbers a model computes, and how they lie.

    Attributes:
        precision: of Lightning Fabric, "32-true" or "bf16-mixed".
        channels_last: keep images with their channels side by side, as tensor cores want.
        compile: whether `torch.compile` pays: for long runs of many small operations.
    """

    precision: str = "32-true"
    channels_last: bool = False
    compile: bool = False

    def __post_init__(self):
        if self.precision not in PRECISIONS:  # float16 needs scaled gradients: not here
            known = " or ".join(PRECISIONS)
            raise ValueError(f"precision '{self.precision}': recipes train in {known}")


@dataclass(frozen=True, kw_only=True)
class Players(Computation):
    """Who is trained, and in which turns.

    Attributes:
        loop: dotted path of the course's loop: "training.train" for a model with one loss,
            "gan.gan.train_gan" for two players. Of these the average follows the generator
            alone, and the discriminator is kept as it is.
        critic_steps: moves of the discriminator, each on a batch of its own, in a step.
        clip: largest norm of the gradient of one loss (None: no limit).
    """

    loop: str = ONE_LOSS
    critic_steps: int = 1
    clip: float | None = None

    def __post_init__(self):
        super().__post_init__()
        two, k = self.loop != ONE_LOSS, self.critic_steps
        if k < 1 or (k > 1 and not two) or (two and (self.compile or self.clip)):
            raise ValueError(
                f"a recipe with loop='{self.loop}', critic_steps={k}, clip={self.clip}, "
                f"compile={self.compile}: a loss of its own takes critic_steps=1, and two "
                "players are neither compiled nor clipped"
            )

    @property
    def moves(self) -> tuple[str, ...]:
        """The names of the losses that are minimised in a step, one after the other."""
        if self.loop == ONE_LOSS:
            return ("loss",)
        return (*["discriminator_loss"] * self.critic_steps, "generator_loss")


@dataclass(frozen=True, kw_only=True)
class Optimisation(Players):
    """How a model is trained.

    Attributes:
        steps, batch: optimiser steps, and rows per step over all devices together.
        augment: dotted path of a function that changes a batch at random, on its device.
        lr, warmup: highest learning rate; steps over which it rises, before it falls.
        optimizer: dotted path of a function (model, lr, weight_decay) -> optimiser.
        weight_decay: of the optimiser.
        ema: decay of the averaged weights, which are evaluated and kept; 0: no average.
        every: steps between evaluations; the run can be resumed from each of them.
        patience: evaluations without improvement before the run ends (None: never early).
        seed: of weights, order of the data and noise.
    """

    steps: int
    batch: int = 100
    augment: str | None = None
    lr: float = 1e-3
    warmup: int = 0
    optimizer: str = "training.adamw"
    weight_decay: float = 0.0
    ema: float = 0.0
    every: int = 500
    patience: int | None = None
    seed: int = 0

    def rate(self, step: int) -> float:
        """Return the learning rate of step 0, 1, ...: a linear rise, then a cosine to 0."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        return fall(self.lr, (step - self.warmup) / max(self.steps - self.warmup, 1))


@dataclass(frozen=True, kw_only=True)
class Purpose:
    """What a recipe is for; nothing here decides what comes out.

    Attributes:
        unit: the unit of the course that tells about it.
        goal, stretch: value of a metric to reach on the test split, and a better one that
            may or may not come within reach.
        aim: which of the metrics the goal is about.
        public: the best figure that others published, and its cost.
        device, minutes: what it is meant for, "cpu" or "gpu" (one H100, alone), and about
            how long it takes.
        priority: 1, 2, ...: the order in which a queue takes recipes; 0: after all others.
        keep: whether the course ships its weights; of some, only the card is of use.
    """

    unit: str
    goal: float | None = None
    stretch: float | None = None
    aim: int = 0
    public: Public | None = None
    device: str = "cpu"
    minutes: float = 2.0
    priority: int = 0
    keep: bool = True


@dataclass(frozen=True, kw_only=True)
class Recipe(Optimisation, Purpose):
    """One training run. The first metric, on the validation split, chooses the weights.

    Attributes:
        name: "family/recipe", also the name of its checkpoint.
        model, args, kwargs: the class, dotted path below `gdm_course`, and its arguments.
        data, data_args: a function that returns `scale.data.Splits`, and its arguments.
        metrics: the figures; all are measured on the test split.
    """

    name: str
    model: str
    data: str
    args: tuple = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    data_args: tuple = ()
    metrics: tuple[Metric, ...] = (NLL,)

    def settings(self) -> dict[str, Any]:
        """Return what decides the result, as JSON has it (no goals, no estimates)."""
        told = {f.name for f in fields(Purpose)} | {"compile"}
        return jsonable({k: v for k, v in asdict(self).items() if k not in told})

    def build(self) -> Any:
        """Make the untrained model."""
        return resolve(self.model)(*self.args, **self.kwargs)


def differs(recipe: Recipe, then: dict[str, Any]) -> list[str]:
    """Name the settings that are not those of a card or of an unfinished run.

    A setting that recipes did not have then counts as its default.
    """
    before = {f.name: jsonable(f.default) for f in fields(recipe)} | then
    return [name for name, now in recipe.settings().items() if now != before[name]]


def jsonable(value: Any) -> Any:
    """Return the value as it comes back from a JSON file: tuples become lists."""
    if isinstance(value, dict):
        return {k: jsonable(v) for k, v in value.items()}
    return [jsonable(v) for v in value] if isinstance(value, tuple | list) else value


def resolve(dotted: str) -> Any:
    """Import `module.Name`, named relative to `gdm_course`."""
    module, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(f"gdm_course.{module}"), name)
