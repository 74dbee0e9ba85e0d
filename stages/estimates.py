"""Estimates the arithmetic, memory and disk of a whole run from the params alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Literal

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

Parts = Literal["pairs", "tokens", "both"]
"""The sets that a training reads."""


@dataclass(frozen=True)
class Training:
    """One training on one set, or on a mixture of sets."""

    stage: str
    set: str
    """Name of the set; of a mixture `train:3+faces:1`."""
    side: int
    """Side of the HR crops, in pixels."""
    batch: int
    steps: int
    crops: int
    """Number of HR crops in all of its sets."""
    gan_from: int
    """First step with the discriminator, if there is one."""
    step: StepCost
    """Cost of a step, the discriminator included."""
    held: int
    """Bytes of shards that the loader keeps in the machine's memory."""

    @property
    def passes(self) -> float:
        """Number of times that each crop is seen; of a mixture, the mean over its crops."""
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

    first, last = params.tokenizer, params.rap
    recompute = params.compute.activation_checkpointing
    training = partial(_training, params, disk)
    tokenizer = training(
        "train_tokenizer",
        ({first.set: 1}, first.batch_size, first.steps),
        first.image.adversarial.start,
        tokenizer_step(architecture, first, sides[first.set], recompute),
        "pairs",
    )
    predictor = tuple(
        training(
            "train_predictor",
            (phase.weights, phase.batch_size, phase.steps),
            0,
            predictor_step(
                architecture,
                params.predictor,
                phase.batch_size,
                sides[phase.first_set],
                recompute,
            ),
            "tokens",
        )
        for phase in params.predictor.phases
    )
    with_tokens = last.loss_weights.structure or last.loss_weights.code
    rap = training(
        "finetune_rap",
        ({last.set: 1}, last.batch_size, last.steps),
        last.image.adversarial.start,
        rap_step(architecture, last, sides[last.set], recompute),
        "both" if with_tokens else "pairs",
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


def _training(
    params: Params,
    disk: Mapping[str, Footprint],
    stage: str,
    phase: tuple[Mapping[str, int], int, int],
    gan_from: int,
    step: StepCost,
    parts: Parts,
) -> Training:
    """The training of a stage on `phase`: weights of its sets, batch size, steps."""
    pairs = params.pairs
    weights, batch, steps = phase
    crops, held = 0, 0
    for name in weights:
        samples, found = pairs.sets[name].samples, disk[name]
        read = {
            "pairs": found.pairs,
            "tokens": found.tokens,
            "both": found.pairs + found.tokens,
        }[parts]
        shards = ceil(samples / pairs.shard_size)
        held += round(read * min(1, (BLOCK_SHARDS + SHARDS_AHEAD) / shards))
        crops += samples
    mixed = "+".join(f"{name}:{weight}" for name, weight in weights.items())
    first = next(iter(weights))
    label = mixed if len(weights) > 1 else first
    side = pairs.sets[first].size
    return Training(stage, label, side, batch, steps, crops, gan_from, step, held)
