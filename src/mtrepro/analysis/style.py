"""How figures look, and what makes their bytes the same on every machine.

Nothing is taken from the user's matplotlibrc, locale, home folder or system fonts; dates and versions are left out.
PNG pixels depend on the processor's floating point in rare last bits: equal on one kind of processor.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtrepro.engine.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("svg", "pdf", "png")
INK, FAINT, GRID = "#222222", "#6b6b6b", "#e3e3e3"
_FONT = "mtrepro DejaVu Sans"  # a name that no system font has

# Okabe and Ito, "Color Universal Design", 2008: told apart with any colour vision; black is left to text.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195")
_DASHES: tuple[Any, ...] = ("-", (0, (6, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
_MARKERS = "osD^v<>"

# What goes into the file's head. None leaves an entry out; matplotlib would write its version and the date.
_METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": "mtrepro"},
    "pdf": {"CreationDate": None, "Creator": "mtrepro", "Producer": "mtrepro"},
    "png": {"Software": None},
}


@dataclass(frozen=True)
class Line:
    """The look of one arm."""

    colour: str
    dashes: Any
    marker: str


def line_of(index: int) -> Line:
    """The look of the index-th arm that learns: colours and dashes cycle with different lengths, so 35 differ."""
    return Line(_COLOURS[index % len(_COLOURS)], _DASHES[index % len(_DASHES)], _MARKERS[index % len(_MARKERS)])


def reference_line(index: int) -> Line:
    """The look of a reference: grey and dashed."""
    return Line(FAINT, ((0, (4, 2.5)), (0, (1.5, 2)))[index % 2], "x")


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """Draw inside this: matplotlib's own defaults, our settings, our font."""
    import matplotlib

    _register_font()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "font.family": _FONT,
                "font.size": 8.5,
                "text.parse_math": False,  # a dollar in a title is a dollar
                "text.color": INK,
                "axes.edgecolor": FAINT,
                "axes.labelcolor": INK,
                "axes.titlesize": 9.5,
                "axes.titlelocation": "left",
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.grid": True,
                "axes.axisbelow": True,
                "grid.color": GRID,
                "grid.linewidth": 0.7,
                "xtick.color": FAINT,
                "ytick.color": FAINT,
                "xtick.labelcolor": INK,
                "ytick.labelcolor": INK,
                "lines.linewidth": 1.7,
                "lines.markersize": 5,
                "legend.frameon": False,
                "legend.handlelength": 2.8,
                "svg.hashsalt": "mtrepro",
                "svg.fonttype": "path",  # looks the same where the font is missing
                "pdf.fonttype": 42,  # TrueType, which publishers ask for
                "savefig.dpi": 200,
                "figure.dpi": 100,
            }
        )
        yield


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches, which no window system or global state knows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write name.svg, name.pdf and name.png.

    Raises:
        OutputError: the folder cannot be written.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once: the same places in all formats, and in a third of the time
    for kind in FORMATS:
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata=_METADATA[kind])
        write_atomically(folder / f"{name}.{kind}", buffer.getvalue())


def thousands(value: float) -> str:
    """A tick: 0, 500, 20k, 1.5M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}".replace("-", "\N{MINUS SIGN}")
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")


def few_ticks(axes: Axes, horizontal: int = 5, vertical: int = 5) -> None:
    """Round ticks, as many at most."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for axis, count in ((axes.xaxis, horizontal), (axes.yaxis, vertical)):
        axis.set_major_locator(MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(FuncFormatter(lambda value, _: thousands(round(value, 9))))


def spread(heights: list[float], gap: float) -> list[float]:
    """Labels at `heights` in [0, 1], moved apart to at least `gap`, as little as possible, in the same order."""
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    placed: list[float] = []
    for index in order:
        placed.append(max(heights[index], placed[-1] + gap) if placed else heights[index])
    # Pushed over the top: everything from there moves down again
    ceiling = 1.0
    for position in reversed(range(len(placed))):
        placed[position] = min(placed[position], ceiling)
        ceiling = placed[position] - gap
    result = [0.0] * len(heights)
    for position, index in enumerate(order):
        result[index] = placed[position]
    return result


def _register_font() -> None:
    """Give the DejaVu Sans inside matplotlib a name of its own: a system's DejaVu Sans may be another version."""
    import matplotlib
    from matplotlib.font_manager import FontEntry, fontManager

    if any(entry.name == _FONT for entry in fontManager.ttflist):
        return
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for file, weight in (("DejaVuSans.ttf", 400), ("DejaVuSans-Bold.ttf", 700)):
        entry = FontEntry(
            fname=str(folder / file),
            name=_FONT,
            style="normal",
            variant="normal",
            weight=weight,
            stretch="normal",
            size="scalable",
        )
        fontManager.ttflist.append(entry)
