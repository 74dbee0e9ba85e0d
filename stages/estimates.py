"""What a whole run takes: arithmetic, memory and disk, computed from the params alone."""

from dataclasses import dataclass
from math import ceil

from pipeline.inspection.estimates import Footprint, footprint
from pipeline.loading.order import BLOCK_SHARDS
from stages.params import Params
from tvqrap.cost.flops import (
    StepCost,
    predictor_step,
    rap_step,
    tokenizer_step,
    tokenizing_operations,
)
from tvqrap.training.checkpoint import KEPT


@dataclass(frozen=True)
class Training:
    """One training on one set."""

    stage: str
    set: str
    side: int
    """Of the HR crops, in pixels."""
    batch: int
    steps: int
    crops: int
    """Of the set."""
    gan_from: int
    """First step that has a discriminator, where there is one."""
    step: StepCost
    """With the discriminator."""
    held: int
    """Bytes of shards that the loader holds in the machine's memory."""

    @property
    def passes(self) -> float:
        """How often each crop of the set is seen."""
        return self.steps * self.batch / self.crops

    @property
    def operations(self) -> int:
        """Of all steps."""
        without = min(self.steps, self.gan_from) * self.step.operations.get("discriminator", 0)
        return self.steps * sum(self.step.operations.values()) - without


@dataclass(frozen=True)
class Extraction:
    """Tokenizing all crops of all sets."""

    samples: int
    operations: int


@dataclass(frozen=True)
class Plan:
    """A whole run, in the order in which it goes."""

    tokenizer: Training
    extraction: Extraction
    predictor: tuple[Training, ...]
    """One for each phase."""
    rap: Training
    disk: dict[str, Footprint]
    """By set."""
    checkpoints: int
    """Bytes of the checkpoints that the largest training keeps, one more while it writes."""

    @property
    def trainings(self) -> tuple[Training, ...]:
        """All of them, in order."""
        return (self.tokenizer, *self.predictor, self.rap)

    @property
    def operations(self) -> int:
        """Of all trainings and the extraction."""
        return self.extraction.operations + sum(each.operations for each in self.trainings)


def plan(params: Params) -> Plan:
    """What a run takes. Nothing is read but `params`; takes seconds."""
    architecture, pairs = params.architecture, params.pairs
    disk = {name: footprint(name, settings, architecture) for name, settings in pairs.sets.items()}
    sides = {name: settings.size for name, settings in pairs.sets.items()}
    per_crop = {side: tokenizing_operations(architecture, side) for side in set(sides.values())}

    def training(
        stage: str, name: str, batch: int, steps: int, gan_from: int, step: StepCost, read: int
    ) -> Training:
        crops = pairs.sets[name].samples
        shards = ceil(crops / pairs.shard_size)
        held = round(read * min(1, BLOCK_SHARDS / shards))
        return Training(stage, name, sides[name], batch, steps, crops, gan_from, step, held)

    first, last = params.tokenizer, params.rap
    tokenizer = training(
        "train_tokenizer",
        first.set,
        first.batch_size,
        first.steps,
        first.image.adversarial.start,
        tokenizer_step(architecture, first, sides[first.set]),
        disk[first.set].pairs,
    )
    predictor = tuple(
        training(
            "train_predictor",
            phase.set,
            phase.batch_size,
            phase.steps,
            0,
            predictor_step(architecture, phase.batch_size, sides[phase.set]),
            disk[phase.set].tokens,
        )
        for phase in params.predictor.phases
    )
    joined = disk[last.set].tokens if last.loss_weights.structure or last.loss_weights.code else 0
    rap = training(
        "finetune_rap",
        last.set,
        last.batch_size,
        last.steps,
        last.image.adversarial.start,
        rap_step(architecture, last, sides[last.set]),
        disk[last.set].pairs + joined,
    )
    return Plan(
        tokenizer=tokenizer,
        extraction=Extraction(
            samples=sum(settings.samples for settings in pairs.sets.values()),
            operations=sum(
                settings.samples * per_crop[settings.size] for settings in pairs.sets.values()
            ),
        ),
        predictor=predictor,
        rap=rap,
        disk=disk,
        checkpoints=(KEPT + 1) * max(each.step.checkpoint for each in (tokenizer, *predictor, rap)),
    )
