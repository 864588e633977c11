"""Templates of this package, filled in: everything that comes from outside is escaped."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from onnx_oto.errors import RuntimeMissingError
from onnx_oto.text import shown

if TYPE_CHECKING:
    from jinja2 import Environment

_MARKS = "\\`*_{}[]<>#|~"
"""Characters that mean something in Markdown."""


def render(name: str, **values: Any) -> str:
    """Return a template with these values. Raises RuntimeMissingError where jinja2 is not installed."""
    return environment().get_template(name + ".j2").render(**values)


@cache
def environment() -> Environment:
    """Return what templates are compiled and kept by. Raises RuntimeMissingError where jinja2 is not installed."""
    try:
        from jinja2 import Environment, PackageLoader
    except ImportError:
        raise RuntimeMissingError(
            "jinja2 is missing, which reports are written with: pip install jinja2"
        ) from None
    made = Environment(
        loader=PackageLoader("onnx_oto.reporting", "templates"),
        autoescape=lambda name: name is None or not name.endswith(".md.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {
        "count": count,
        "percent": percent,
        "short": short,
        "size": size,
        "ms": milliseconds,
        "between": between,
        "seen": shown,
        "md": markdown,
        "lasting": lasting_of,
    }
    return made


def count(value: float | None) -> str:
    """Return a whole number with its thousands apart, a dash where there is none.

    >>> count(14567520), count(None)
    ('14,567,520', '–')
    """
    return "–" if value is None else f"{value:,.0f}"


def short(value: float | None) -> str:
    """Return a number in three figures and a letter.

    >>> short(950), short(14567520), short(121030), short(2_000_000_000)
    ('950', '14.6 M', '121 k', '2.00 G')
    """
    if value is None:
        return "–"
    for power, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= power:
            return f"{_three(value / power)} {letter}"
    return f"{value:,.0f}"


def size(value: float | None) -> str:
    """Return bytes for people, in powers of 1000.

    >>> size(492783), size(85), size(2_500_000)
    ('493 kB', '85 bytes', '2.50 MB')
    """
    if value is None:
        return "–"
    for power, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= power:
            return f"{_three(value / power)} {unit}"
    return f"{value:.0f} bytes"


def _three(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def percent(value: float | None) -> str:
    """Return a share in percent with one digit behind the point, fewer than that as such.

    >>> percent(0.1637), percent(0.00004), percent(0.0), percent(None)
    ('16.4%', '<0.1%', '0%', '–')
    """
    if value is None:
        return "–"
    if value == 0:
        return "0%"
    return "<0.1%" if 0 < value < 0.0005 else f"{value:.1%}"


def milliseconds(value: float | None) -> str:
    """Return milliseconds in three figures.

    >>> milliseconds(0.0584), milliseconds(51.64), milliseconds(1234.5)
    ('0.0584 ms', '51.6 ms', '1,234 ms')
    """
    if value is None:
        return "–"
    return f"{value:,.0f} ms" if value >= 100 else f"{value:#.3g} ms"


def between(bounds: tuple[float, float]) -> str:
    """Return two bounds in milliseconds, the unit once.

    >>> between((0.2429, 0.2546))
    '0.243 – 0.255 ms'
    """
    low, high = map(milliseconds, bounds)
    return f"{low.removesuffix(' ms')} – {high}"


def lasting_of(seconds: float | None) -> str:
    """Return how long something took, as people say it."""
    from onnx_oto.text import lasting

    return "–" if seconds is None else lasting(seconds)


def markdown(value: Any) -> str:
    r"""Return text of outside for a line of Markdown, with nothing in it that Markdown means.

    >>> markdown("a|b_c")
    'a\\|b\\_c'
    """
    return "".join("\\" + char if char in _MARKS else char for char in shown(str(value)))
