"""The commands that evaluate a network: `summary` without training, `check`, `predict`."""

import argparse
import csv
import json
import re
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from smidgen._storage.progress import status
from smidgen.cli.arguments import (
    add_options,
    add_target,
    chosen_experiment,
    given_options,
)
from smidgen.cli.flags import add_experiment_flags
from smidgen.errors import ConfigError, DataError
from smidgen.runs.options import RunOptions


def add_summary(commands: Any) -> None:
    """Register `summary`."""
    parser = commands.add_parser(
        "summary",
        help="show layers, parameters, MACs, receptive fields and memory, without training",
    )
    parser.set_defaults(command=_summary)
    add_target(parser)
    parser.add_argument(
        "--input",
        type=_shape,
        metavar="CxHxW",
        help="channels, height and width of the images (default: the data set's)",
    )
    parser.add_argument(
        "--classes", type=int, metavar="N", help="number of classes (default: the data set's)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FILE",
        help="save a diagram of the network and its receptive fields, as .svg or .png",
    )
    add_experiment_flags(parser)


def add_check(commands: Any) -> None:
    """Register `check`."""
    parser = commands.add_parser(
        "check", help="evaluate a run's weights again and compare the result with its record"
    )
    parser.set_defaults(command=_check)
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    add_options(parser, "data_dir", "skip_bad", "device")
    parser.add_argument(
        "--repeat",
        action="store_true",
        help="also train again; weights and metrics must be the same, byte for byte",
    )


def add_predict(commands: Any) -> None:
    """Register `predict`."""
    parser = commands.add_parser("predict", help="classify images with a run's network")
    parser.set_defaults(command=_predict)
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument(
        "images",
        type=Path,
        nargs="+",
        metavar="IMAGE",
        help="image files of any size, or folders: all images in them",
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print JSON")
    output.add_argument("--csv", action="store_true", help="print CSV, a column for each class")


def add_evaluate(commands: Any) -> None:
    """Register `evaluate`."""
    parser = commands.add_parser(
        "evaluate",
        help="judge networks that were trained elsewhere",
        description="Judge a network that was trained elsewhere by its weights, and write a run's "
        "folder with the report. Or judge folders of submissions, each in its own process, by one "
        "file of limits. Either runs the networks' code.",
    )
    parser.set_defaults(command=_evaluate)
    parser.add_argument(
        "targets",
        nargs="+",
        metavar="NETWORK|FOLDER",
        help="with --weights: FILE.py:NAME, PACKAGE.MODULE:NAME, a chain or an experiment; "
        "with --limits: folders that hold a model file and its weights",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="a state dict: .safetensors, or as torch.save writes it",
    )
    for name in ("mean", "std"):
        parser.add_argument(
            f"--{name}",
            type=float,
            nargs="+",
            metavar="VALUE",
            help="how training normalized pixels in [0, 1], by channel (default: the data set's)",
        )
    parser.add_argument(
        "--limits",
        type=Path,
        metavar="FILE",
        help="judge folders of submissions by the [budget], [data] and [model] in this TOML file",
    )
    parser.add_argument(
        "--timeout", type=float, default=300.0, metavar="SECONDS", help="for each submission"
    )
    parser.add_argument(
        "--memory",
        type=float,
        default=16.0,
        metavar="GiB",
        help="address space of each submission's process, on Linux and macOS",
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print JSON")
    output.add_argument("--csv", action="store_true", help="with --limits: print CSV")
    add_options(parser, "out", "data_dir", "skip_bad", "device", "threads")
    add_experiment_flags(parser)
    parser.usage = f"{parser.prog} [options] NETWORK --weights FILE | FOLDER... --limits FILE"


def _shape(text: str) -> tuple[int, int, int]:
    match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})x([1-9]\d{0,3})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} must be CHANNELSxHEIGHTxWIDTH, as in 1x28x28")
    channels, height, width = map(int, match.groups())
    return channels, height, width


def _summary(given: argparse.Namespace) -> int:
    with status("loading torch"):
        from smidgen._storage.serialization import to_plain
        from smidgen.cli.console import print_result, terminal_width
        from smidgen.data import DatasetInfo, open_dataset
        from smidgen.runs.judge import judge
        from smidgen.runs.network import prepare_network

    if given.classes is not None and given.classes < 2:
        raise ConfigError(f"--classes is {given.classes}; it must be 2 or more.")
    experiment = chosen_experiment(given, "mnist")
    if given.input and given.classes:
        info = DatasetInfo(given.input, given.classes)
    else:
        known = open_dataset(experiment.data).info
        info = DatasetInfo(given.input or known.image_shape, given.classes or known.num_classes)
    network, profile = prepare_network(experiment, info)
    if given.save is not None:
        from smidgen.report import network_plot

        network_plot(profile, title=experiment.name).save(given.save)
    verdict = judge(experiment.budget, network, profile, epochs=experiment.train.epochs)
    if given.json:
        print(json.dumps({"profile": to_plain(profile), "verdict": to_plain(verdict)}, indent=1))
    else:
        shape = "x".join(map(str, info.image_shape))
        print(f"images: {shape} (channels, height, width), {info.num_classes} classes\n")
        print(profile.text(terminal_width()), end="\n\n")
        print_result(str(verdict))
    return 0 if verdict.passed else 1


def _check(given: argparse.Namespace) -> int:
    from smidgen.cli.console import print_result
    from smidgen.cli.display import Display

    with closing(Display()) as display:
        display.on_status("loading torch")
        from smidgen.runs.check import check

        result = check(
            given.run,
            data_dir=given.data_dir,
            skip_bad=given.skip_bad,
            repeat=given.repeat,
            callbacks=[display],
            **given_options(given, "device"),
        )
    print_result(str(result))
    return 0 if result.passed else 1


def _predict(given: argparse.Namespace) -> int:
    from smidgen.formatting import percent
    from smidgen.record import read_record

    with status("loading torch"):
        from smidgen.runs.predict import predict

    bad: list[DataError] = []
    with status("classifying"):
        found = predict(given.run, given.images, on_bad=bad.append)
    if given.json:
        plain = [{"path": str(p.path), "classes": dict(p.classes)} for p in found]
        print(json.dumps(plain, indent=1, ensure_ascii=False))
    elif given.csv:
        names = read_record(given.run).data.classes
        table = csv.writer(sys.stdout, lineterminator="\n")
        table.writerow(["path", "predicted", *names])
        for prediction in found:
            shares = dict(prediction.classes)
            cells = [f"{shares[name]:.6f}" for name in names]
            table.writerow([prediction.path, prediction.classes[0][0], *cells])
    else:
        for prediction in found:
            likely = ", ".join(f"{name} {percent(share)}" for name, share in prediction.classes[:3])
            print(f"{prediction.path}: {likely}")
    for error in bad:
        print(f"smidgen: {error}", file=sys.stderr)
    return 2 if bad else 0


def _evaluate(given: argparse.Namespace) -> int:
    if (given.weights is None) == (given.limits is None):
        raise ConfigError(
            "evaluate needs either a network and --weights FILE, or folders of submissions and "
            "--limits FILE."
        )
    if given.limits is not None:
        return _evaluate_submissions(given)
    if len(given.targets) > 1 or given.csv:
        raise ConfigError("--weights takes one network, and no --csv.")
    given.experiment = given.targets[0]
    experiment = chosen_experiment(given)
    stated = experiment.train.epochs if hasattr(given, "train.epochs") else None
    names = ("out", "data_dir", "device", "threads")
    options = RunOptions(skip_bad=given.skip_bad, **given_options(given, *names))
    with status("loading torch"):
        from smidgen.runs.evaluate_weights import evaluate_experiment
    with status(f"evaluating {experiment.name}"):
        result = evaluate_experiment(
            experiment,
            given.weights,
            mean=given.mean,
            std=given.std,
            epochs=stated,
            options=options,
        )
    assert result.record is not None
    assert result.folder is not None
    if given.json:
        plain = {
            "num_params": result.record.profile.num_params,
            "accuracy": result.record.test.score.accuracy,
            "passed": result.verdict.passed,
            "status": result.verdict.status,
            "folder": str(result.folder),
        }
        print(json.dumps(plain))
    else:
        from smidgen.cli.console import print_result, terminal_width
        from smidgen.record import PAGE

        print(result.record.profile.text(terminal_width()), end="\n\n")
        for warning in result.record.warnings:
            print(f"warning: {warning}")
        print_result(str(result))
        print(f"report: {result.folder / PAGE}")
    return 0 if result.verdict.passed else 1


def _evaluate_submissions(given: argparse.Namespace) -> int:
    """Judge each folder in its own process; 0 if all pass."""
    from smidgen._storage.serialization import to_plain
    from smidgen.cli.console import print_table
    from smidgen.formatting import percent
    from smidgen.runs.submissions import judge_submission, read_limits

    limits = read_limits(given.limits)
    shared = {name: getattr(given, name) for name in ("data_dir", "device", "threads")}
    options = [f"--{k.replace('_', '-')}={v}" for k, v in shared.items() if v is not None]
    options += ["--skip-bad"] if given.skip_bad else []
    for name in ("mean", "std"):
        if values := getattr(given, name):
            options += [f"--{name}", *map(str, values)]
    found = []
    for target in given.targets:
        print(f"smidgen: judging {target}", file=sys.stderr)
        found.append(
            judge_submission(
                Path(target),
                limits,
                Path(given.out or "runs"),
                timeout=given.timeout,
                memory_gib=given.memory,
                options=tuple(options),
            )
        )
    header = ("name", "parameters", "accuracy", "result")
    if given.json:
        print(json.dumps(to_plain(tuple(found)), indent=1))
    elif given.csv:
        table = csv.writer(sys.stdout, lineterminator="\n")
        table.writerow(header)
        table.writerows((s.name, s.num_params, s.accuracy, s.result) for s in found)
    else:
        rows = [
            (
                s.name,
                "-" if s.num_params is None else f"{s.num_params:,}",
                "-" if s.accuracy is None else percent(s.accuracy),
                s.result,
            )
            for s in found
        ]
        print_table(header, rows, "<>><", ())
    return 0 if all(s.passed for s in found) else 1
