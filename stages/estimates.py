"""Estimates the arithmetic, memory and disk of a whole run from the params alone."""

from dataclasses import dataclass
from math import ceil

from pipeline.inspection.estimates import Footprint, footprint
from pipeline.loading.order import BLOCK_SHARDS
from pipeline.loading.reader import SHARDS_AHEAD
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
    """Side of the HR crops, in pixels."""
    batch: int
    steps: int
    crops: int
    """Number of HR crops in the set."""
    gan_from: int
    """First step with the discriminator, if there is one."""
    step: StepCost
    """Cost of a step, the discriminator included."""
    held: int
    """Bytes of shards that the loader keeps in the machine's memory."""

    @property
    def passes(self) -> float:
        """Number of times that each crop of the set is seen."""
        return self.steps * self.batch / self.crops

    @property
    def operations(self) -> int:
        """Operations of all steps."""
        without = min(self.steps, self.gan_from) * self.step.operations.get("discriminator", 0)
        return self.steps * sum(self.step.operations.values()) - without


@dataclass(frozen=True)
class Extraction:
    """Extraction of the tokens of all crops of all sets."""

    samples: int
    operations: int


@dataclass(frozen=True)
class Plan:
    """A whole run, in the order of its stages."""

    tokenizer: Training
    extraction: Extraction
    predictor: tuple[Training, ...]
    """One for each phase."""
    rap: Training
    disk: dict[str, Footprint]
    """Footprint of each set."""
    checkpoints: int
    """Bytes of the checkpoints of the largest training, while it writes a new one."""

    @property
    def trainings(self) -> tuple[Training, ...]:
        """All trainings, in order."""
        return (self.tokenizer, *self.predictor, self.rap)

    @property
    def operations(self) -> int:
        """Operations of all trainings and the extraction."""
        return self.extraction.operations + sum(each.operations for each in self.trainings)


def plan(params: Params) -> Plan:
    """Estimates a run from its params alone. Takes seconds."""
    architecture, pairs = params.architecture, params.pairs
    disk = {name: footprint(name, settings, architecture) for name, settings in pairs.sets.items()}
    sides = {name: settings.size for name, settings in pairs.sets.items()}
    per_crop = {side: tokenizing_operations(architecture, side) for side in set(sides.values())}

    def training(
        stage: str, name: str, batch: int, steps: int, gan_from: int, step: StepCost, read: int
    ) -> Training:
        crops = pairs.sets[name].samples
        shards = ceil(crops / pairs.shard_size)
        held = round(read * min(1, (BLOCK_SHARDS + SHARDS_AHEAD) / shards))
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
            predictor_step(architecture, params.predictor, phase.batch_size, sides[phase.set]),
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
