"""`tvqrap-cli tokens`: inspects, checks, compares and plans token data sets."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tvqrap.cli.checkout import checkout
from tvqrap.cli.output_paths import check_overwrite
from tvqrap.cli.shard_sets import (
    DeepCheck,
    Folder,
    Full,
    Json,
    Level,
    find_sets,
    inspect_sets,
    on_executor,
    print_json,
    trust_params,
    verify_sets,
)
from tvqrap.cli.tokens_plan import plan
from tvqrap.runtime.errors import UsageError, UserError

if TYPE_CHECKING:
    from pipeline.inspection.sampling import TokenSample
    from pipeline.storage.location import Location

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Token data sets: structure and codes of HR crops.",
)
app.command()(plan)

SHOWN = 10
"""How many lines of a list are printed; --json prints all."""

Pairs = Annotated[
    str | None,
    typer.Option(help="Pairs of the tokens: a set or a folder of sets; default: the checkout's."),
]
TokenizerFolder = Annotated[
    Path | None,
    typer.Option("--tokenizer", help="Folder of the tokenizer; default: the checkout's."),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the random samples.")]


@app.command()
def inspect(folder: Folder, as_json: Json = False) -> None:
    """Print the manifests of sets of tokens (or pairs)."""
    inspect_sets(folder, as_json)


@app.command()
def verify(
    folder: Folder,
    quick: Annotated[
        bool, typer.Option("--quick", help="Check counts and sizes (the default).")
    ] = False,
    full: Full = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also encode random samples again and compare.")
    ] = False,
    samples: Annotated[int, typer.Option(min=1, help="Samples per set for --deep.")] = 16,
    seed: Seed = 0,
    pairs: Pairs = None,
    tokenizer: TokenizerFolder = None,
    as_json: Json = False,
) -> None:
    """Check shards of tokens (or pairs) against their manifest, and tokens against their crops.

    --deep needs the pairs and the tokenizer. Codes have to be equal, structures within float16. On
    another kind of device, or with another torch, differences are printed and are no failure.
    """
    if quick + full + deep > 1:
        raise UsageError("--quick, --full and --deep: found several, expected one")
    level: Level = "deep" if deep else "full" if full else "quick"

    def reencoded(path: "Location") -> DeepCheck:
        from pipeline.inspection.reencode import another_machine, reencode
        from pipeline.shards.manifest import Manifest

        manifest = Manifest.load(path)
        if manifest.kind != "tokens":
            return DeepCheck([], "pairs have no tokens to encode again", {"encoded_anew": 0})
        drawn = _drawn(path, pairs, tokenizer, samples, seed)
        found = reencode(drawn)
        problems = [f"{path}/{sample.problem}" for sample in found if sample.problem]
        said = f"{len(found)} of {manifest.samples} samples encoded again, seed {seed}"
        about: dict[str, Any] = {
            "encoded_anew": len(found),
            "samples": manifest.samples,
            "seed": seed,
        }
        if machines := another_machine(drawn):
            # Another machine may choose other codes between close entries.
            codes = sum(sample.codes_differing for sample in found)
            said += (
                f", {len(problems)} of them differ ({codes} codes), no proof of a fault: {machines}"
            )
            about |= {"another_machine": machines, "differing": len(problems), "codes": codes}
            problems = []
        return DeepCheck(problems, said, about)

    verify_sets(folder, level, as_json, reencoded, lambda path: _other_sources(path, pairs))


@app.command()
def stats(
    folder: Folder,
    margins: Annotated[
        int, typer.Option(min=0, help="Samples per set for distance margins; 0: none.")
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
    """Print the use of the codebook, the drift between shards and the margins of the codes.

    A margin is (second - nearest) / second of the distances to the two nearest codebook entries.
    Drift is the Jensen-Shannon divergence, in bits, of a shard's codes from all other shards'.
    """
    from pipeline.inspection.margins import margins as measure
    from pipeline.inspection.margins import save_margins
    from pipeline.tokens.statistics import save_tables, token_statistics

    documents = []
    for path in find_sets(folder):
        found = token_statistics(path, **on_executor(path))
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
            document["margins_missing"] = "--margins is 0"
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
    """List the samples whose codes differ between two token sets, or two folders of sets."""
    from pipeline.inspection.diff import token_difference

    documents = []
    for name, *folders in _same_sets(first, second):
        found = token_difference(*folders)
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
            f"({share:.2%} of all codes), {len(found.differing) - len(changed)} with another "
            "structure only"
        )
        for folder, keys in zip(folders, (found.only_first, found.only_second), strict=True):
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

    found = find_sets(first), find_sets(second)
    if [*found[0], *found[1]] == [location(first), location(second)]:
        return [(found[0][0].name, found[0][0], found[1][0])]
    one, other = ({path.name: path for path in paths} for paths in found)
    if one.keys() != other.keys():
        raise UserError(
            f"{first} has the sets {', '.join(one)}, {second} has {', '.join(other)}, "
            "expected the same: name one set of each"
        )
    return [(name, one[name], other[name]) for name in one]


@app.command()
def preview(
    keys: Annotated[list[str], typer.Argument(help="Keys of samples, as in the shards.")],
    tokens: Annotated[str, typer.Option(help="The token set of the samples, path or URL.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Output file, a PNG.")],
    pairs: Pairs = None,
    tokenizer: TokenizerFolder = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
    as_json: Json = False,
) -> None:
    """Draw the images decoded from samples' tokens beside their LR and HR."""
    from pipeline.inspection.preview import token_sheet
    from pipeline.storage.location import location
    from tvqrap.images.save import save_png

    check_overwrite(output, overwrite)
    folder = location(tokens)
    sheet = token_sheet(folder, _pairs_of(folder, pairs), _tokenizer(tokenizer), keys)
    save_png(output, sheet)
    if as_json:
        print_json({"output": str(output), "keys": keys, "size": sheet.size})
    else:
        typer.echo(f"{output}: {len(keys)} samples of {tokens}")


def _other_sources(tokens: "Location", pairs: str | None) -> list[str]:
    """Token shards whose pair shards have changed since, one line each.

    Compares with the given pairs, or with the checkout's if the tokens were made from those.
    """
    from pipeline.inspection.reencode import other_sources
    from pipeline.shards.manifest import Manifest

    manifest = Manifest.load(tokens)
    if manifest.kind != "tokens":
        return []
    try:
        folder = _pairs_of(tokens, pairs)
        own = Manifest.load(folder).root == manifest.extra.get("pairs")
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
    """The given set of pairs, or the one of the token set's name in a folder of sets."""
    from pipeline.shards.manifest import MANIFEST, Manifest
    from pipeline.storage.location import location

    trust_params()
    folder = location(pairs or checkout() / "data" / "pairs")
    return folder if (folder / MANIFEST).is_file() else folder / Manifest.load(tokens).set


def _tokenizer(folder: Path | None) -> Path:
    return folder or checkout() / "models" / "tokenizer"
