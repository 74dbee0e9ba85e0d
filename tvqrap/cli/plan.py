"""`tvqrap-cli params plan`: estimates the cost of a run before it starts."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from tvqrap.cli.checkout import checkout
from tvqrap.runtime.errors import UsageError

if TYPE_CHECKING:
    from stages.estimates import Plan, Training

TFLOPS = 50.0

_NOTES = """\
Computed from the profile; nothing was run and nothing is measured.
- operations: two for a multiply-add, in convolutions, matrix products and attention, forward and
  backward. Not counted: normalisation, activation functions, the optimiser, loading, validation,
  checkpoints, and the stages make_pairs and evaluate.
- passes: number of times that each crop of the set is seen.
- time: at {tflops:g} TFLOP/s sustained on one device ({device}), which is an assumption
  (--tflops). The speed depends on the device, the precision and the batch size. Extraction
  runs in plain float32, without TF32.
- state: weights, gradients, Adam's two moments and the running average, in float32.
- activations: float32 tensors that the backward pass needs, a lower bound. Temporary tensors and
  the workspaces of convolutions come on top. bfloat16 takes less. With
  compute.activation_checkpointing they are the inputs of blocks, and the operations of the
  networks' blocks are counted once more.
- disk: codes and structures are exact; PNGs are estimated from crops of the same size (at most 3
  bytes a pixel). Shards in use are in the machine's memory, not the device's."""


def plan(
    profile: Annotated[
        str | None,
        typer.Argument(help="Name of a profile, or a file; params.yaml if not given."),
    ] = None,
    tflops: Annotated[
        float,
        typer.Option(help="Assumed speed of the device, sustained, in 1e12 operations a second."),
    ] = TFLOPS,
) -> None:
    """Check a profile and estimate its cost: parameters, arithmetic, memory, disk and days."""
    if not tflops > 0:
        raise UsageError(f"--tflops: found {tflops:g}, expected more than 0")
    path = _file(profile)

    from stages.estimates import plan as work_out
    from stages.params import load_params
    from stages.runner.weights import missing_weights

    params = load_params(path)
    typer.echo(f"{path}: every key is there and allowed")
    if missing := missing_weights(params):
        typer.echo(fill(missing, 100, break_long_words=False, break_on_hyphens=False))
    made = work_out(params)
    typer.echo(f"\nArithmetic, in operations\n{aligned(_arithmetic(made, tflops))}")
    typer.echo(f"{_parts(made.tokenizer)}\n{_parts(made.rap)}")
    typer.echo(f"\nMemory of the device, in bytes\n{aligned(_memory(made))}")
    typer.echo(f"\nDisk, in bytes\n{aligned(_disk(made))}")
    typer.echo("\n" + _NOTES.format(tflops=tflops, device=params.compute.device))


def _file(profile: str | None) -> Path:
    if profile is not None and Path(profile).is_file():
        return Path(profile)
    root = checkout()
    if profile is None:
        return root / "params.yaml"

    from stages.profile import profile_path

    return profile_path(profile, root)


def _arithmetic(plan: "Plan", tflops: float) -> list[list[str]]:
    def end(operations: int) -> list[str]:
        return [short(operations), duration(operations / (tflops * 1e12))]

    def line(each: "Training") -> list[str]:
        step = sum(each.step.operations.values())
        sizes = [str(each.side), str(each.batch), f"{each.steps:,}", f"{each.passes:.1f}"]
        return [each.stage, each.set, *sizes, short(step), *end(each.operations)]

    crops = f"{plan.extraction.samples:,} crops"
    return [
        ["", "set", "crop", "batch", "steps", "passes", "a step", "in all", "time"],
        line(plan.tokenizer),
        ["extract_tokens", "all", "", "", crops, "1.0", "", *end(plan.extraction.operations)],
        *(line(each) for each in (*plan.predictor, plan.rap)),
        ["together", *[""] * 6, *end(plan.operations)],
    ]


def _parts(training: "Training") -> str:
    """Share of each network in the operations of a step."""
    operations = training.step.operations
    total = sum(operations.values())
    shares = [f"{part} {count / total:.0%}" for part, count in operations.items() if count]
    return f"a step of {training.stage}: {', '.join(shares)}"


def _memory(plan: "Plan") -> list[list[str]]:
    rows = [["", "trained", "frozen", "state", "activations", "together", "shards in use"]]
    for each in plan.trainings:
        step = each.step
        rows.append(
            [
                f"{each.stage} {each.set}",
                f"{step.trained / 1e6:.2f} M",
                f"{step.frozen / 1e6:.2f} M",
                *(short(size) for size in (step.state, step.kept, step.state + step.kept)),
                short(each.held),
            ]
        )
    return rows


def _disk(plan: "Plan") -> list[list[str]]:
    rows = [["", "pairs", "tokens"]]
    for name, size in plan.disk.items():
        rows.append([name, short(size.pairs), short(size.tokens)])
    sums = (
        sum(size.pairs for size in plan.disk.values()),
        sum(size.tokens for size in plan.disk.values()),
    )
    rows.append(["together", *(short(size) for size in sums), short(sum(sums))])
    rows.append(["checkpoints", "", "", short(plan.checkpoints)])
    return rows


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines: the first column is aligned left, the others right."""
    count = max(len(row) for row in rows)
    filled = [[*row, *[""] * (count - len(row))] for row in rows]
    widths = [max(len(row[column]) for row in filled) for column in range(count)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in filled
    )


def duration(seconds: float) -> str:
    """Three digits and a unit: 1.17 days."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.2g} seconds"


def short(number: float) -> str:
    """Three digits and a letter: 1.23 G, 45.6 T."""
    letters = ["", " k", " M", " G", " T", " P", " E"]
    while abs(number) >= 999.5 and len(letters) > 1:
        number /= 1000
        letters.pop(0)
    return f"{number:.3g}{letters[0]}"
