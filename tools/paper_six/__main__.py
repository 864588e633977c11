"""`tools/paper`: train networks of the OTOv2 paper by its recipes, sparse and dense, resumably.

    tools/paper resnet18 --data CIFAR_FOLDER --folder runs/paper
    tools/paper vgg16_bn resnet18 --small --data FOLDER --folder runs/small
    tools/paper --folder runs/small
    tools/paper densenet121 --recipe densenet121-cifar100 --model densenet121.onnx

The first trains by samples/resnet18-cifar10.toml, which takes days without a GPU; the data are what `onnx-oto train`
reads. The second trains reduced networks on Fashion-MNIST, CIFAR-10 or pairs of images, unpacked from files in FOLDER.
Every run that is done is a line in results.jsonl and is not done again; one that was left goes on. The third prints the
table. The last only writes the model. Options of `onnx-oto train` may follow behind `--`; they make no
other run of one that is done.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from onnx_oto.model import save
from paper_six.networks import NETWORKS
from paper_six.recipes import DENSE, FORMS, SPARSE, recipes, settings
from paper_six.runs import LINES, Left, Run, do, rows
from paper_six.small import SMALL, prepared
from paper_six.table import table


def main() -> int:
    """Do what is asked for; print the table of the folder."""
    given = sys.argv[1:]
    end = given.index("--") if "--" in given else len(given)
    parser, further = _parser(), given[end + 1 :]
    asked = parser.parse_args(given[:end])
    if unknown := [name for name in asked.networks if name not in NETWORKS]:
        parser.error(f"there is no network '{unknown[0]}': they are {', '.join(NETWORKS)}")
    if asked.model is not None:
        return _write(parser, asked)
    if asked.networks and asked.data is None:
        parser.error("--data is missing: the data to train on")
    left = []
    for network in asked.networks:
        try:
            runs = _runs(parser, asked, network)
        except FileNotFoundError as missing:
            print(f"Error: {missing}", file=sys.stderr)
            return 8
        for run in runs:
            try:
                do(run, asked.folder, further, asked.minutes)
            except Left as stopped:
                left.append(str(stopped))
    found = rows(asked.folder / LINES)
    print(table(found) if found else f"no run is done in '{asked.folder}'")
    print(*left, sep="\n", file=sys.stderr, end="\n" if left else "")
    return 0


def _runs(parser: argparse.ArgumentParser, asked: argparse.Namespace, network: str) -> list[Run]:
    kinds = [DENSE, SPARSE] if asked.only is None else [asked.only]
    if asked.small:
        small = SMALL[network]
        asked.folder.mkdir(parents=True, exist_ok=True)
        data, content = prepared(small, asked.data, asked.folder), small.settings
        recipe, form, title, known = small.recipe, small.form, small.data, small.known
    else:
        recipe = _recipe(parser, asked, network)
        data, content = asked.data, settings(recipe)
        form, title, known = FORMS[recipes()[recipe][1]], "", None
    if asked.epochs is not None:
        content["epochs"] = asked.epochs
    return [Run(network, recipe, form, data, content, kind, asked.seed, title, known) for kind in kinds]


def _recipe(parser: argparse.ArgumentParser, asked: argparse.Namespace, network: str) -> str:
    fitting = [name for name, (owner, _) in recipes().items() if owner == network]
    if asked.recipe is None:
        return fitting[0]
    if asked.recipe not in fitting:
        parser.error(f"--recipe {asked.recipe}: for {network} there are {', '.join(fitting)}")
    return str(asked.recipe)


def _write(parser: argparse.ArgumentParser, asked: argparse.Namespace) -> int:
    if len(asked.networks) != 1:
        parser.error("--model: name one network")
    (network,) = asked.networks
    form = SMALL[network].form if asked.small else FORMS[recipes()[_recipe(parser, asked, network)][1]]
    save(NETWORKS[network](form, asked.seed), asked.model)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/paper", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", metavar="MODEL", help=", ".join(NETWORKS))
    parser.add_argument("--data", type=Path, help="the data; with --small a folder with the packed files")
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/paper"), help="for everything written [runs/paper]"
    )
    parser.add_argument("--recipe", help="of samples/, without .toml [the network's first]")
    parser.add_argument("--small", action="store_true", help="reduced sizes")
    parser.add_argument("--epochs", type=int, help="in place of the recipe's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=[DENSE, SPARSE], help="one of the two runs")
    parser.add_argument("--minutes", type=float, help="leave a run after so long; the same command goes on")
    parser.add_argument("--model", type=Path, help="only write the untrained model to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
