"""Draw two plots from the JSON of `run.py opens past --json`, for the README.

    tools/bench/plots.py FIGURES.json [--into FOLDER]

`open.svg` shows the time of an open against the number of images, `as-of.svg` the time of a look at
the past against the length of the log; ours and the floor, both axes logarithmic.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

INK, PALE = "#24292f", "#d0d7de"
STYLES: dict[str, dict[str, Any]] = {
    "ours": {"color": "#0969da", "marker": "o", "linewidth": 2.2},
    "ours, longest tail": {"color": "#0969da", "marker": "o", "linestyle": ":"},
    "ours, worst position": {"color": "#0969da", "marker": "o", "linestyle": ":"},
    "floor": {"color": "#6e7781", "marker": "s", "linestyle": "--"},
    "docker": {"color": "#cf222e", "linestyle": "-.", "linewidth": 1.2},
}
NAMES = {
    "floor": "floor: msgspec decodes the rows",
    "docker": "Docker, 95 µs an image (measured apart)",
}


def draw(
    points: Mapping[str, list[float]], along: str, title: str, label: str, destination: Path
) -> None:
    """Write one plot as an SVG file.

    Args:
        points: the numbers along the axis, and seconds by name of the line.
        along: which of them is the axis.
        title: what is shown.
        label: of the horizontal axis.
        destination: the file.
    """
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 10})
    mpl.rcParams["font.family"] = ["sans-serif"]
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter

    figure, axes = plt.subplots(figsize=(6.4, 3.9), layout="constrained")
    for name, seconds in points.items():
        if name != along:
            style = {"markersize": 4.5, "linewidth": 1.5} | STYLES[name]
            axes.plot(points[along], seconds, label=NAMES.get(name, name), **style)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: duration(value)))
    axes.set_xlabel(label, color=INK)
    axes.set_ylabel("time", color=INK)
    axes.set_title(title, loc="left", color=INK, fontsize=11)
    axes.grid(which="major", color=PALE, linewidth=0.6)
    axes.minorticks_off()
    axes.tick_params(colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, labelcolor=INK, fontsize=9)
    figure.savefig(destination, facecolor="white", metadata={"Date": None})
    plt.close(figure)


def duration(seconds: float) -> str:
    """Return a duration as people say it.

    >>> duration(0.001), duration(100.0), duration(0.00002)
    ('1 ms', '100 s', '20 µs')
    """
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= scale * 0.9999:
            return f"{seconds / scale:g} {unit}"
    return f"{round(seconds * 1e6, 3):g} µs"


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figures", type=Path, help="what `run.py --json` printed")
    parser.add_argument("--into", type=Path, default=Path(__file__).with_name("plots"))
    options = parser.parse_args()
    if importlib.util.find_spec("matplotlib") is None:
        print("nothing is drawn: 'matplotlib' is missing (pip install 'image-eventstore[bench]')")
        return 1
    found = json.loads(options.figures.read_text())
    series: dict[str, Any] = {}
    for result in found["results"]:
        series.update(result["series"])
    options.into.mkdir(parents=True, exist_ok=True)
    plots = (
        ("opens", "images", "Opening a store", "images in the store", "open.svg"),
        ("past", "records", "Looking at the past, cold", "records in the log", "as-of.svg"),
    )
    drawn = 0
    for name, along, title, label, file in plots:
        if name not in series:
            print(f"{file} is not drawn: there is nothing of {name!r} in {options.figures}")
            continue
        draw(series[name], along, title, label, options.into / file)
        print(f"{options.into / file}: {(options.into / file).stat().st_size} bytes")
        drawn += 1
    return 0 if drawn else 1


if __name__ == "__main__":
    sys.exit(main())
