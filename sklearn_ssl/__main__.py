"""Command line: compute features of a folder of images, and write them to a table.

python -m sklearn_ssl embed photos/ --learner simclr.safetensors --output features.parquet
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from sklearn_ssl import list_images, load
from sklearn_ssl._utils._storage import expanded, place_for, read_file, replaced, write_file
from sklearn_ssl.images import path_digest

_ROWS_AT_ONCE = 4096


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m sklearn_ssl", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    embed = commands.add_parser("embed", help="write a table of features, one row per image")
    embed.add_argument("images", help="a folder, a pattern in quotes, or a tar archive")
    embed.add_argument("--learner", required=True, help="a file that a learner's save() wrote")
    embed.add_argument("--output", required=True, type=Path, help="a .parquet or .csv file")
    embed.add_argument("--layer", help="default: the learner's")
    embed.add_argument("--device", help="default: the learner's")
    embed.add_argument("--skip", action="store_true", help="write NaN for unreadable files")
    embed.add_argument("--quiet", action="store_true", help="hide the progress bar, not warnings")
    options = parser.parse_args(arguments)
    try:
        _embed(options)
    except (OSError, ValueError, ImportError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")


def _embed(options: argparse.Namespace) -> None:
    """Write features in parts of a few thousand images, then join the parts in one table.

    After an interruption, complete parts are reused, unless their images were replaced.
    """
    open_writer = _writer_of(options.output.suffix)
    output = place_for(options.output, "--output")
    given = {"layer": options.layer, "device": options.device}
    params = {name: value for name, value in given.items() if value is not None}
    if options.skip:
        params["on_error"] = "skip"
    learner = load(options.learner, **params)
    paths = list_images(options.images)
    parts = output.with_name(f".{output.name}.parts")
    of_learner = _digest(expanded(options.learner, "--learner").read_bytes())
    of_paths = _digest(b"".join(os.fsencode(path) + b"\0" for path in paths))
    task = json.dumps([of_learner, options.layer, options.skip, of_paths])
    _begin(parts, task)
    names = [str(name) for name in learner.get_feature_names_out()]
    written = []
    with tqdm(total=len(paths), unit="image", disable=options.quiet) as bar:
        for start in range(0, len(paths), _ROWS_AT_ONCE):
            some = paths[start : start + _ROWS_AT_ONCE]
            part = parts / f"{start:012d}-{path_digest(some)}.safetensors"
            try:
                read_file(part)
            except (OSError, ValueError):  # missing or damaged
                write_file(part, torch.from_numpy(np.array(learner.transform(some))))
            written.append(part)
            bar.update(len(some))
    _write(output, _in_unicode(paths), written, names, open_writer)
    shutil.rmtree(parts)


def _in_unicode(paths: np.ndarray) -> list[str]:
    """Return paths as text; bytes that are not UTF-8 are escaped, as in ``\\xe9``."""
    texts = [os.fsencode(path).decode("utf-8", errors="backslashreplace") for path in paths]
    if changed := [text for text, path in zip(texts, paths, strict=True) if text != path]:
        print(
            f"{len(changed)} of {len(texts)} paths are not UTF-8; the table escapes their bytes, "
            f"as in {changed[0]}",
            file=sys.stderr,
        )
    return texts


def _write(
    output: Path,
    paths: list[str],
    parts: list[Path],
    names: list[str],
    open_writer: Callable[..., Any],
) -> None:
    """Join all parts in one table."""
    import pyarrow

    fields = [("path", pyarrow.string()), *((name, pyarrow.float32()) for name in names)]
    schema = pyarrow.schema(fields)
    with replaced(output) as beside, open_writer(beside, schema) as writer:
        start = 0
        for part in parts:
            features = read_file(part).numpy()
            columns = [paths[start : start + len(features)], *features.T]
            start += len(features)
            writer.write_table(
                pyarrow.Table.from_arrays(list(map(pyarrow.array, columns)), schema=schema)
            )


def _writer_of(suffix: str) -> Callable[..., Any]:
    try:
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError:
        raise ImportError("tables need pyarrow: pip install 'sklearn-ssl[tables]'") from None
    writers = {".parquet": pyarrow.parquet.ParquetWriter, ".csv": pyarrow.csv.CSVWriter}
    if suffix not in writers:
        raise ValueError(f"--output must end in {' or '.join(writers)}")
    return writers[suffix]


def _begin(parts: Path, task: str) -> None:
    """Make the folder of parts; delete parts of a different task."""
    note = parts / "task.json"
    if parts.exists() and not (note.exists() and note.read_text() == task):
        shutil.rmtree(parts)
    parts.mkdir(parents=True, exist_ok=True)
    note.write_text(task)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


if __name__ == "__main__":
    main()
