"""The commands that list, download, verify and show data sets."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen._storage.progress import status
from smidgen.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from smidgen.data import Dataset
    from smidgen.data.named.files import CatalogEntry
    from smidgen.data.preview import ImageRows

_ROTATE, _SHARE = 10.0, 0.1  # what the augmented samples show


def add(commands: Any) -> None:
    """Register `data` with its own commands."""
    data = commands.add_parser("data", help="list, download, verify or show data sets")
    actions = data.add_subparsers(title="commands", required=True, metavar="COMMAND")

    listing = actions.add_parser("list", help="list the data sets that have a name")
    listing.set_defaults(command=_list)

    get = actions.add_parser("get", help="download a data set, unless it is there")
    get.set_defaults(command=_get)

    verify = actions.add_parser("verify", help="compare a data set's files with their digests")
    verify.set_defaults(command=_verify)
    for parser in (get, verify):
        parser.add_argument("name", metavar="NAME", help="as listed by `smidgen data list`")

    show = actions.add_parser(
        "show",
        help="count a data set's images by class and draw samples",
        description="Print splits, classes, mean and standard deviation; draw samples of each "
        "class into one PNG, and augmented samples below their originals into another.",
    )
    show.set_defaults(command=_show)
    show.add_argument("name", metavar="NAME|PATH", help="a name, or the path of custom data")
    show.add_argument(
        "--out",
        type=Path,
        metavar="FILE.png",
        help="the file for samples (default: NAME.png); augmented ones go to NAME-augmented.png",
    )
    show.add_argument("--size", type=int, metavar="N", help="the side to resize custom images to")
    show.add_argument(
        "--skip-bad", action="store_true", help="skip images that cannot be read, and list them"
    )
    for parser in (get, verify, show):
        parser.add_argument(
            "--data-dir", type=Path, metavar="DIR", help="the folder that holds the data set"
        )


def _list(given: argparse.Namespace) -> int:
    from smidgen.cli.console import print_table

    with status("loading torch"):
        from smidgen.data.named.catalog import CATALOG

    rows = []
    for name, entry in CATALOG.items():
        channels, height, width = entry.info.image_shape
        shape = f"{height}x{width} {'grayscale' if channels == 1 else 'color'}"
        counts = (entry.num_train, entry.num_test, entry.info.num_classes)
        train, test, classes = (f"{count:,}" for count in counts)
        rows.append((name, train, test, shape, classes, entry.about))
    header = ("name", "training", "test", "images", "classes", "about")
    print_table(header, rows, "<>><><", ("about",))
    return 0


def _get(given: argparse.Namespace) -> int:
    entry = _entry(given.name)
    from smidgen.data.named.files import read_named

    with status(f"loading {given.name}"):
        _, source = read_named(entry, given.data_dir, 20.0)
    print(f"{given.name}: {source}" + ("; all digests are right" if entry.files else ""))
    return 0


def _verify(given: argparse.Namespace) -> int:
    entry = _entry(given.name)
    from smidgen.data.named.files import verify

    with status(f"verifying {given.name}"):
        problems = verify(entry, given.data_dir)
    for path, problem in problems.items():
        print(f"WRONG  {problem}" if problem else f"ok     {path}")
    if not problems:
        print(f"{given.name}: embedded in scikit-learn; there are no files to verify")
    return 1 if any(problems.values()) else 0


def _entry(name: str) -> "CatalogEntry":
    with status("loading torch"):
        from smidgen.data.named.catalog import CATALOG

    if name not in CATALOG:
        raise ConfigError(
            f"{name!r} is not a data set; it must be one of {', '.join(CATALOG)}."
            + did_you_mean(name, CATALOG)
        )
    return CATALOG[name]


def _show(given: argparse.Namespace) -> int:
    from dataclasses import replace

    from smidgen.config import Augment

    with status("loading torch"):
        from smidgen.data import find_data, load
        from smidgen.data.preview import augmented_rows, sample_rows

    data = replace(find_data(given.name), size=given.size)
    with status(f"loading {given.name}"):
        dataset = load(data, data_dir=given.data_dir, skip_bad=given.skip_bad)
    out = given.out or Path(f"{dataset.name}.png")
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out is {out}; it must end in .png.")
    augmented = out.with_name(f"{out.stem}-augmented.png")
    settings = Augment(rotate=_ROTATE, translate=_SHARE, scale=_SHARE, shear=_SHARE)
    words = f"rotate {_ROTATE:g} degrees; translate, scale, shear {_SHARE:g}"
    _print(dataset)
    with status("drawing the samples"):
        _draw(sample_rows(dataset), dataset.name, out)
        _draw(augmented_rows(dataset, settings), f"{dataset.name}: {words}", augmented)
    print(f"samples: {out}")
    print(f"augmented: {augmented}")
    return 0


def _draw(rows: "ImageRows", title: str, path: Path) -> None:
    from smidgen._storage.files import write_atomic
    from smidgen.report.image_grid import named_rows
    from smidgen.report.style import as_png

    names, images = zip(*rows, strict=True)
    write_atomic(path, as_png(named_rows(images, names, title)))


def _print(dataset: "Dataset") -> None:
    channels, height, width = dataset.image_shape
    mean, std = (", ".join(f"{v:.4f}" for v in values) for values in (dataset.mean, dataset.std))
    color = "grayscale" if channels == 1 else "color"
    print(f"{dataset.name}: {dataset.source}")
    print(f"images: {height}x{width}, {color}; mean {mean}, standard deviation {std}")
    splits = dataset.splits
    counts = [s.labels.bincount(minlength=len(dataset.classes)).tolist() for s in splits.values()]
    rows = [(name, *(count[i] for count in counts)) for i, name in enumerate(dataset.classes)]
    longest = max(len(name) for name in ("class", *dataset.classes))
    print("  ".join([f"{'class':<{longest}}", *(f"{name:>10}" for name in splits)]))
    for name, *numbers in (*rows, ("all", *map(len, splits.values()))):
        print("  ".join([f"{name:<{longest}}", *(f"{number:>10,}" for number in numbers)]))
    for note in dataset.notes:
        print(f"note: {note}")
