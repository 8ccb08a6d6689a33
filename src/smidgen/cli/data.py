"""The commands that list, get, verify and show data sets."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import ConfigError

if TYPE_CHECKING:
    from smidgen.config import Augment, Data
    from smidgen.data import Dataset
    from smidgen.data.named.sources import BuiltIn

_SAMPLES = 10  # of each class
_PAIRS = 20
_ROTATE, _SHARE = 10.0, 0.1  # what augmentation shows


def add(commands: Any) -> None:
    """Register `data` with its own commands."""
    data = commands.add_parser("data", help="list, get, verify or show data sets")
    actions = data.add_subparsers(title="commands", required=True, metavar="COMMAND")

    listing = actions.add_parser("list", help="show the data sets that go by a name")
    listing.set_defaults(command=_list)

    get = actions.add_parser("get", help="download a data set, unless it is at hand")
    get.set_defaults(command=_get)

    verify = actions.add_parser("verify", help="hold a data set's files against their digests")
    verify.set_defaults(command=_verify)
    for parser in (get, verify):
        parser.add_argument("name", metavar="NAME", help="as `smidgen data list` shows it")

    show = actions.add_parser(
        "show",
        help="count a data set's classes and draw samples",
        description="Print parts, classes, mean and standard deviation, and draw samples by class "
        "into one PNG and augmented ones beside their originals into another.",
    )
    show.set_defaults(command=_show)
    show.add_argument("name", metavar="NAME|PATH", help="a name, or the path of your own")
    show.add_argument(
        "--out",
        type=Path,
        metavar="FILE.png",
        help="where the samples go (default: NAME.png); the augmented ones: NAME-augmented.png",
    )
    show.add_argument("--size", type=int, metavar="N", help="the side to resize your own to")
    show.add_argument(
        "--skip-bad", action="store_true", help="skip pictures that cannot be read, and list them"
    )
    for parser in (get, verify, show):
        parser.add_argument(
            "--data-dir", type=Path, metavar="DIR", help="the folder that holds the set's files"
        )


def _list(given: argparse.Namespace) -> int:
    from smidgen.data import NAMES
    from smidgen.data.named import catalog

    for name in NAMES:
        if name == "digits":
            shape, classes, counts = "28x28 grayscale", 10, (1437, 360)
            about = "handwritten digits; they come with smidgen"
        else:
            source = catalog.BUILT_IN[name]
            channels, height, width = source.image_shape
            shape = f"{height}x{width} {'grayscale' if channels == 1 else 'colour'}"
            classes, about = len(source.classes), source.about
            counts = (source.num_train, source.num_test)
        print(
            f"{name:<16} {counts[0]:>7,} + {counts[1]:>6,}  {shape:<13} {classes:>3} classes  "
            f"{about}"
        )
    return 0


def _get(given: argparse.Namespace) -> int:
    from smidgen.data.named.sources import read_builtin

    source = _builtin(given.name)
    if source is None:
        print(f"{given.name}: comes with smidgen, nothing to get")
        return 0
    _, words = read_builtin(source, given.data_dir, 20.0)
    print(f"{given.name}: {words}; all digests are right")
    return 0


def _verify(given: argparse.Namespace) -> int:
    from smidgen.data.named.sources import verify

    source = _builtin(given.name)
    if source is None:
        print(f"{given.name}: comes with smidgen, nothing to verify")
        return 0
    checked = verify(source, given.data_dir)
    for file in checked:
        print(f"WRONG  {file.problem}" if file.problem else f"ok     {file.path}")
    return 1 if any(file.problem for file in checked) else 0


def _builtin(name: str) -> "BuiltIn | None":
    """The set of that name; None for the one that needs no files."""
    from smidgen.data import NAMES
    from smidgen.data.named import catalog

    if name not in NAMES:
        raise ConfigError(f"{name!r} is no data set; there are {', '.join(NAMES)}.")
    return catalog.BUILT_IN.get(name)


def _show(given: argparse.Namespace) -> int:
    from smidgen._storage.files import write_atomic
    from smidgen.config import Augment
    from smidgen.data import load
    from smidgen.report.style import as_png

    data = _named(given.name, given.size)
    dataset = load(data, folder=given.data_dir, skip_bad=given.skip_bad)
    _print(dataset)
    out = given.out or Path(f"{dataset.name}.png")
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out is {out}; it must end in .png.")
    second = out.with_name(f"{out.stem}-augmented.png")
    write_atomic(out, as_png(_samples(dataset)))
    write_atomic(
        second,
        as_png(
            _augmented(
                dataset, Augment(rotate=_ROTATE, translate=_SHARE, scale=_SHARE, shear=_SHARE)
            )
        ),
    )
    print(f"samples: {out}")
    print(f"augmented: {second}")
    return 0


def _named(name: str, size: int | None) -> "Data":
    from smidgen.config import Data
    from smidgen.data import NAMES

    if name in NAMES:
        return Data(name=name, size=size)
    if not Path(name).exists():
        raise ConfigError(f"{name!r} is no data set and no path; there are {', '.join(NAMES)}.")
    return Data(path=name, size=size)


def _print(dataset: "Dataset") -> None:
    channels, height, width = dataset.image_shape
    print(f"{dataset.name}: {dataset.source}")
    colour = "grayscale" if channels == 1 else "in colour"
    print(
        f"images: {height}x{width}, {colour}; mean {_round(dataset.mean)}, "
        f"standard deviation {_round(dataset.std)}"
    )
    parts = [("train", dataset.train), ("validation", dataset.validation), ("test", dataset.test)]
    there = [(name, part) for name, part in parts if part is not None]
    counts = [part.labels.bincount(minlength=len(dataset.classes)).tolist() for _, part in there]
    width_ = max(len("class"), *(len(name) for name in dataset.classes))
    print("  ".join([f"{'class':<{width_}}", *(f"{name:>10}" for name, _ in there)]))
    for place, name in enumerate(dataset.classes):
        print("  ".join([f"{name:<{width_}}", *(f"{count[place]:>10,}" for count in counts)]))
    print("  ".join([f"{'all':<{width_}}", *(f"{len(part):>10,}" for _, part in there)]))
    for note in dataset.notes:
        print(f"note: {note}")


def _round(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def _samples(dataset: "Dataset") -> Any:
    from smidgen.report.image_grid import named_rows

    train = dataset.train
    rows, names = [], []
    for place, name in enumerate(dataset.classes):
        chosen = train.first_of(place, _SAMPLES)
        if len(chosen):
            rows.append(train.images[chosen].numpy())
            names.append(name)
    return named_rows(rows, names, dataset.name)


def _augmented(dataset: "Dataset", settings: "Augment") -> Any:
    """Samples from all classes in turn, each beside what one draw of `settings` makes of it."""
    import torch

    from smidgen.data import augment
    from smidgen.report.image_grid import named_rows

    train, generator = dataset.train, torch.Generator().manual_seed(0)
    rounds = [train.first_of(place, _SAMPLES) for place in range(len(dataset.classes))]
    turns = [chosen[i] for i in range(_SAMPLES) for chosen in rounds if i < len(chosen)]
    originals = train.images[torch.stack(turns[:_PAIRS])]
    changed = augment(originals, settings, generator, train.background).round().clamp(0, 255)
    half = -(-len(originals) // 2)
    rows, names = [], []
    for start in (0, half):
        if len(originals[start : start + half]):
            rows += [part[start : start + half].byte().numpy() for part in (originals, changed)]
            names += ["original", "augmented"]
    said = f"rotate {_ROTATE:g} degrees; translate, scale, shear {_SHARE:g}"
    return named_rows(rows, names, f"{dataset.name}: {said}")
