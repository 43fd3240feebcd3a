"""Puts the results into `docs/`, and draws a plot of each that has a curve: `make bench-docs`.

The pages' words are written by hand; what stands between `<!-- bench:NAME -->` and `<!-- end -->` is made here, and a
test holds that the pages show what the JSON files say.
"""

import json
import re
from pathlib import Path
from typing import Any

from report import RESULTS, Cell, Spread, median, table

DOCS = Path(__file__).parent.parent / "docs"
PAGES = (DOCS / "performance.md", DOCS / "scale.md")
PLOTS = DOCS / "performance"
_BLOCK = re.compile(r"<!-- bench:([a-z-]+) -->\n.*?<!-- end -->", re.DOTALL)
STYLES = ("-", "--", "-.", ":")
MARKERS = "osD^vx"


def block(name: str) -> str:
    """What the page says about a benchmark."""
    if not _file(name).exists():
        return f"*Not measured yet: `make bench-{name}`.*"
    result = _read(name)
    rows = [{column: _cell(value) for column, value in row.items()} for row in result["rows"]]
    lines = [table(rows, markdown=True), ""]
    if result["plot"]:
        lines += [f"![{result['question']}](performance/{name}.svg)", ""]
    lines += [
        f"- {'Reached' if each['met'] else '**Missed**'}: {each['what']} {each['wanted']}; measured {each['measured']}."
        for each in result["targets"]
    ]
    lines += [f"- {note}" for note in result["notes"]]
    where = result["machine"]
    source = f"{result['date']}, commit {where['commit']}, {result['rounds']} rounds; {where['processors']}"
    return "\n".join([*lines, "", f"<sub>{source}, {where['memory']}, Python {where['python']}</sub>"])


def page(text: str) -> str:
    """The page with all its blocks made anew."""

    def made(found: re.Match[str]) -> str:
        name = found[1]
        return f"<!-- bench:{name} -->\n\n{block(name)}\n\n<!-- end -->"

    return _BLOCK.sub(made, text)


def draw(name: str) -> None:
    """The plot of a benchmark: curves told apart by line and marker as well as by colour."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    result = _read(name)
    plot = result["plot"]
    mpl.rcParams["svg.hashsalt"] = name  # the same figures make the same file
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    drawn = result.get("curves") or result["rows"]
    for at, each in enumerate(dict.fromkeys(row[plot["by"]] for row in drawn)):
        rows = [row for row in drawn if row[plot["by"]] == each and row.get(plot["y"]) is not None]
        values = [_cell(row[plot["y"]]) for row in rows]
        middle = [median(value) for value in values]
        below = [value.median - value.low if isinstance(value, Spread) else 0 for value in values]
        above = [value.high - value.median if isinstance(value, Spread) else 0 for value in values]
        style: dict[str, Any] = {
            "linestyle": STYLES[at % len(STYLES)],
            "marker": MARKERS[at % len(MARKERS)],
            "capsize": 3,
        }
        axes.errorbar([row[plot["x"]] for row in rows], middle, yerr=(below, above), label=str(each), **style)
    axes.set(xlabel=plot["x"], ylabel=plot["y"])
    axes.set_xscale("log" if plot["log_x"] else "linear")
    axes.set_yscale("log" if plot["log_y"] else "linear")
    measured = sorted({row[plot["x"]] for row in drawn})
    axes.set_xticks(measured, [f"{value:,}" for value in measured])
    axes.xaxis.minorticks_off()
    if not plot["log_y"]:
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, title=plot["by"], frameon=False)  # in no curve's way
    PLOTS.mkdir(exist_ok=True)
    figure.savefig(PLOTS / f"{name}.svg", metadata={"Date": None})


def _read(name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(_file(name).read_text())
    return result


def _file(name: str) -> Path:
    return RESULTS / f"{name}.json"


def _cell(value: Any) -> Cell:
    return Spread(**value) if isinstance(value, dict) else value


def main() -> None:
    for path in filter(Path.exists, PAGES):
        text = path.read_text()
        for name in _BLOCK.findall(text):
            if _file(name).exists() and _read(name)["plot"]:
                draw(name)
        path.write_text(page(text))
        print(f"written: {path}")


if __name__ == "__main__":
    main()
