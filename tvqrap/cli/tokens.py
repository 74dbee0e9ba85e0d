"""`tvqrap-cli tokens`: look into token data sets, check, compare and plan them."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tvqrap.cli.checkout import checkout
from tvqrap.cli.output_paths import check_overwrite
from tvqrap.cli.shard_sets import (
    DeepCheck,
    Folder,
    Json,
    Level,
    find_sets,
    inspect_sets,
    print_json,
    verify_sets,
)
from tvqrap.runtime.errors import UsageError, UserError

if TYPE_CHECKING:
    from pipeline.inspection.estimates import Plan
    from pipeline.inspection.sampling import TokenSample
    from pipeline.storage.location import Location

app = typer.Typer(no_args_is_help=True, help="Token data sets: structure and codes of HR crops.")

SHOWN = 10
"""Lines of a list that are printed; --json has all."""

Pairs = Annotated[
    str | None,
    typer.Option(
        help="Sets of pairs the tokens were made from, path or URL; the checkout's if not given."
    ),
]
TokenizerFolder = Annotated[
    Path | None,
    typer.Option("--tokenizer", help="Tokenizer's folder; the checkout's if not given."),
]
Seed = Annotated[int, typer.Option(min=0, help="Another seed draws other samples.")]


@app.command()
def inspect(folder: Folder, as_json: Json = False) -> None:
    """Say what is in sets of tokens (or pairs), and how they were made."""
    inspect_sets(folder, as_json)


@app.command()
def verify(
    folder: Folder,
    quick: Annotated[bool, typer.Option("--quick", help="Counts and sizes (the default).")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Also check hashes and decode every sample.")
    ] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also encode random samples anew and compare.")
    ] = False,
    samples: Annotated[int, typer.Option(min=1, help="Samples of each set for --deep.")] = 16,
    seed: Seed = 0,
    pairs: Pairs = None,
    tokenizer: TokenizerFolder = None,
    as_json: Json = False,
) -> None:
    """Check shards of tokens (or pairs) against their manifest, and tokens against their crops.

    --deep needs the pairs and the tokenizer. Codes have to be equal, structure within float16; on
    another kind of device, or with another torch, what differs is told and is no failure.
    """
    if quick + full + deep > 1:
        raise UsageError("--quick, --full and --deep: found several, expected one")
    level: Level = "deep" if deep else "full" if full else "quick"

    def reencoded(path: "Location") -> DeepCheck:
        from pipeline.inspection.reencode import another_machine, reencode
        from pipeline.shards.manifest import Manifest

        manifest = Manifest.load(path)
        if manifest.kind != "tokens":
            return DeepCheck([], "pairs: nothing to encode anew", {"encoded_anew": 0})
        drawn = _drawn(path, pairs, tokenizer, samples, seed)
        found = reencode(drawn)
        problems = [f"{path}/{sample.problem}" for sample in found if sample.problem]
        said = f"{len(found)} of {manifest.samples} samples encoded anew, seed {seed}"
        about: dict[str, Any] = {
            "encoded_anew": len(found),
            "samples": manifest.samples,
            "seed": seed,
        }
        if apart := another_machine(drawn):
            # Choices between near codes may fall otherwise there: no fault of the set.
            codes = sum(sample.codes_differing for sample in found)
            said += (
                f", {len(problems)} of them differ ({codes} codes), which proves nothing: {apart}"
            )
            about |= {"another_machine": apart, "differing": len(problems), "codes": codes}
            problems = []
        return DeepCheck(problems, said, about)

    verify_sets(folder, level, as_json, reencoded, lambda path: _other_sources(path, pairs))


@app.command()
def stats(
    folder: Folder,
    margins: Annotated[
        int, typer.Option(min=0, help="Samples encoded anew for distance margins; 0: none.")
    ] = 16,
    seed: Seed = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for tables that `dvc plots show` draws."),
    ] = None,
    pairs: Pairs = None,
    tokenizer: TokenizerFolder = None,
    as_json: Json = False,
) -> None:
    """Say how codes spread over codebook and shards, and how clear their choice is.

    Margins are (second - nearest) / second of the distances to codebook entries; drift is the
    Jensen-Shannon divergence, in bits, of a shard's codes from those of all other shards.
    """
    from pipeline.inspection.margins import margins as measure
    from pipeline.inspection.margins import save_margins
    from pipeline.tokens.statistics import save_tables, token_statistics

    documents = []
    for path in find_sets(folder):
        found = token_statistics(path)
        document: dict[str, Any] = {
            "path": str(path),
            "samples": found.samples,
            "codes": int(found.counts.sum()),
            "codebook": len(found.counts),
            "usage": found.usage,
            "perplexity": found.perplexity,
            "dead": found.dead,
            "histogram": found.counts.tolist(),
            "drift": [asdict(drift) for drift in found.drift],
            "margins": None,
        }
        if margins:
            try:
                measured = measure(_drawn(path, pairs, tokenizer, margins, seed))
                document["margins"] = asdict(measured)
                if output is not None:
                    save_margins(measured, output, path.name)
            except UserError as error:
                document["margins_missing"] = str(error)
        else:
            document["margins_missing"] = "not asked for"
        documents.append(document)
        if not as_json:
            _show_statistics(document)
        if output is not None:
            save_tables(found, output, path.name)
    if as_json:
        print_json(documents)


def _show_statistics(found: dict[str, Any]) -> None:
    dead, drift, margins = found["dead"], found["drift"], found["margins"]
    typer.echo(f"{found['path']}: {found['samples']} samples, {found['codes']:,} codes")
    typer.echo(
        f"  usage    {found['usage']:.1%} of {found['codebook']} codes, "
        f"perplexity {found['perplexity']:.1f}"
    )
    typer.echo(f"  dead     {len(dead)}" + (f": {_some(dead)}" if dead else ""))
    counts = found["histogram"]
    order = sorted(range(len(counts)), key=lambda code: -counts[code])[:SHOWN]
    total = max(1, found["codes"])
    typer.echo("  frequent " + ", ".join(f"{code} ({counts[code] / total:.1%})" for code in order))
    if drift:
        worst = sorted(drift, key=lambda row: -row["divergence"])
        typer.echo(
            f"  drift    median {worst[len(worst) // 2]['divergence']:.4f} bits, largest "
            f"{worst[0]['divergence']:.4f} ({worst[0]['shard']}, {worst[0]['samples']} samples)"
        )
    if margins:
        typer.echo(
            f"  margins  median {margins['median']:.3f}, 10 % below {margins['p10']:.3f}, "
            f"1 % below {margins['p1']:.4f}; {margins['close_share']:.1%} closer than 1 % "
            f"({margins['vectors']:,} vectors of {margins['samples']} samples)"
        )
    else:
        typer.echo(f"  margins  none: {found['margins_missing']}")


def _some(values: list[int]) -> str:
    shown = ", ".join(str(value) for value in values[:SHOWN])
    return shown + (f" and {len(values) - SHOWN} more" if len(values) > SHOWN else "")


@app.command()
def diff(
    first: Folder,
    second: Folder,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 1 where anything differs.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say which samples' codes differ between two token sets, or two folders of sets."""
    from pipeline.inspection.diff import token_difference

    documents = []
    for name, ours, theirs in _same_sets(first, second):
        found = token_difference(ours, theirs)
        share = found.codes_differing / max(1, found.codes)
        documents.append(
            {
                "set": name,
                "equal": found.equal,
                "codes_differing": found.codes_differing,
                "share": share,
                **asdict(found),
            }
        )
        if as_json:
            continue
        if found.equal:
            typer.echo(f"{name}: equal, {found.common} samples")
            continue
        changed = [sample for sample in found.differing if sample.codes_differing]
        typer.echo(
            f"{name}: {found.common} samples in both, {len(changed)} with other codes "
            f"({share:.2%} of all codes), {len(found.differing) - len(changed)} with other "
            "structure alone"
        )
        for folder, keys in ((ours, found.only_first), (theirs, found.only_second)):
            if keys:
                typer.echo(f"  only in {folder}: {len(keys)}, {', '.join(keys[:SHOWN])}")
        changed.sort(key=lambda sample: -sample.codes_differing)
        for sample in changed[:SHOWN]:
            typer.echo(f"  {sample.key}: {sample.codes_differing} of {sample.codes} codes differ")
        if len(changed) > SHOWN:
            typer.echo(f"  and {len(changed) - SHOWN} more")
    if as_json:
        print_json(documents)
    if exit_code and not all(document["equal"] for document in documents):
        raise typer.Exit(UserError.exit_code)


def _same_sets(first: str, second: str) -> list[tuple[str, "Location", "Location"]]:
    """(name, folder, folder) of the sets to compare: one each, or those with equal names."""
    from pipeline.storage.location import location

    ours, theirs = (find_sets(folder) for folder in (first, second))
    if [*ours, *theirs] == [location(first), location(second)]:
        return [(ours[0].name, ours[0], theirs[0])]
    names = {path.name: path for path in ours}, {path.name: path for path in theirs}
    if names[0].keys() != names[1].keys():
        raise UserError(
            f"{first} has the sets {', '.join(names[0])}, {second} has {', '.join(names[1])}, "
            "expected the same: name one set of each"
        )
    return [(name, names[0][name], names[1][name]) for name in names[0]]


@app.command()
def preview(
    keys: Annotated[list[str], typer.Argument(help="Keys of samples, as in the shards.")],
    tokens: Annotated[str, typer.Option(help="The token set that holds them, path or URL.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The sheet, a PNG.")],
    pairs: Pairs = None,
    tokenizer: TokenizerFolder = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a file that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Draw what is decoded from samples' tokens, beside their LR and HR."""
    from pipeline.inspection.preview import token_sheet
    from pipeline.storage.location import location
    from tvqrap.images.open import save_png

    check_overwrite(output, overwrite)
    place = location(tokens)
    sheet = token_sheet(place, _pairs_of(place, pairs), _tokenizer(tokenizer), keys)
    save_png(output, sheet)
    if as_json:
        print_json({"output": str(output), "keys": keys, "size": sheet.size})
    else:
        typer.echo(f"{output}: {len(keys)} samples of {tokens}")


@app.command()
def plan(
    source: Annotated[
        str,
        typer.Argument(help="A manifest, a set of pairs, a folder of sets or of photographs."),
    ],
    workers: Annotated[
        list[int] | None, typer.Option(min=1, help="Workers, 1 if not given; may be repeated.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, help="Samples per second of one worker; else measured here."),
    ] = None,
    params: Annotated[Path, typer.Option(help="File of parameters: network, tokens.")] = Path(
        "params.yaml"
    ),
    size: Annotated[
        int | None, typer.Option(min=32, help="Side of the HR crops of photographs.")
    ] = None,
    crops: Annotated[
        int | None, typer.Option(min=1, help="Crops of each photograph, 1 if not given.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="How long to measure.")] = 10.0,
    as_json: Json = False,
) -> None:
    """Say how many samples and bytes an extraction makes, and how many hours it takes.

    The network and the extraction's batch, threads and device are those of the parameters. The
    rate is that of encoding on this machine, unless given. Of workers no more count than there are
    shards. Photographs are counted without a look at them.
    """
    from pipeline.inspection.estimates import measured_rate, plan, workloads
    from pipeline.storage.location import location
    from stages.params import load_params

    settings = load_params(params)
    architecture = settings.architecture
    rates: dict[int, float] = {}
    plans: list[Plan] = []
    crews = workers or [1]
    for work in workloads(location(source), size, crops):
        if work.size not in rates:
            rates[work.size] = rate or measured_rate(
                architecture, settings.tokens, work.size, seconds
            )
        plans += [plan(work, architecture, rates[work.size], count) for count in crews]
    how = "given" if rate else "measured here"
    if as_json:
        print_json({"rate": how, "plans": [asdict(each) for each in plans]})
        return
    for each in plans:
        typer.echo(
            f"{each.name}: {each.samples:,} samples of {each.size}x{each.size}, {_sizes([each])}; "
            f"{_duration(each.hours)} on {_crew(each.workers)} at {each.rate:.3g} samples/s each "
            f"({how})"
        )
    if len(plans) > len(crews):
        for number, crew in enumerate(crews):
            sets = plans[number :: len(crews)]
            typer.echo(
                f"together: {sum(each.samples for each in sets):,} samples, {_sizes(sets)}; "
                f"{_duration(sum(each.hours for each in sets))} on up to {_crew(crew)}, one set "
                "after the other"
            )
    if any(each.carried_bytes is None for each in plans):
        typer.echo("photographs that data.min_side or damage will rule out are counted in")


def _crew(workers: int) -> str:
    return f"{workers} worker{'s' if workers > 1 else ''}"


def _sizes(plans: "list[Plan]") -> str:
    tokens = f"{_bytes(sum(each.token_bytes for each in plans))} of tokens"
    carried = [each.carried_bytes for each in plans if each.carried_bytes is not None]
    return tokens + (f" and {_bytes(sum(carried))} of LR" if carried else "")


def _duration(hours: float) -> str:
    if hours >= 1:
        return f"{hours:.3g} h"
    return f"{hours * 60:.3g} min" if hours * 60 >= 1 else f"{hours * 3600:.3g} s"


def _bytes(count: int) -> str:
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.3g} {unit}"


def _other_sources(tokens: "Location", pairs: str | None) -> list[str]:
    """Shards of tokens whose pair shards have changed since, where the pairs are at hand.

    Those are the pairs that were given, or the checkout's if they are those of the tokens.
    """
    from pipeline.inspection.reencode import other_sources
    from pipeline.shards.manifest import Manifest

    manifest = Manifest.load(tokens)
    if manifest.kind != "tokens":
        return []
    try:
        folder = _pairs_of(tokens, pairs)
        own = Manifest.load(folder).root == manifest.extra["pairs"]
    except UserError:
        if pairs is not None:
            raise
        return []
    return other_sources(tokens, folder) if own or pairs is not None else []


def _drawn(
    tokens: "Location", pairs: str | None, tokenizer: Path | None, count: int, seed: int
) -> "TokenSample":
    from pipeline.inspection.sampling import TokenSample

    return TokenSample.draw(tokens, _pairs_of(tokens, pairs), _tokenizer(tokenizer), count, seed)


def _pairs_of(tokens: "Location", pairs: str | None) -> "Location":
    """The set of pairs of a token set: of that name among those given, or the one that was."""
    from pipeline.shards.manifest import MANIFEST, Manifest
    from pipeline.storage.location import location

    folder = location(pairs or checkout() / "data" / "pairs")
    return folder if (folder / MANIFEST).is_file() else folder / Manifest.load(tokens).set


def _tokenizer(folder: Path | None) -> Path:
    return folder or checkout() / "models" / "tokenizer"
