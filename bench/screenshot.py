"""python -m bench.screenshot PAGE OUT.png [--of SELECTOR] [--width N] [--height N] [--dark] [--print]: a page as PNG.

Without a selector the top of the page, at that height; with one the whole element, however high it is.
"""

from __future__ import annotations

import argparse
import base64
import json
from pathlib import Path

from bench.chromium import Page, browser


def take(
    page: Path, out: Path, *, of: str | None, width: int, height: int, dark: bool = False, printed: bool = False
) -> None:
    """Write the picture.  Raises RuntimeError where there is no browser, the page complains, or nothing is selected."""
    with browser() as tab:
        _resize(tab, width, height)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        tab.call("Emulation.setScrollbarsHidden", hidden=True)
        tab.call("Emulation.setEmulatedMedia", media="print" if printed else "", features=scheme)
        tab.open(page.resolve().as_uri(), "document.readyState == 'complete'")
        clip = {"x": 0, "y": 0, "width": width, "height": height}
        if of is not None:
            _resize(tab, width, tab.evaluate("document.documentElement.scrollHeight"))
            found = tab.evaluate(f"document.querySelector({json.dumps(of)})?.getBoundingClientRect().toJSON()")
            if found is None:
                raise RuntimeError(f"nothing on {page} is selected by {of}")
            clip = {name: found[name] for name in ("x", "y", "width", "height")}
        taken = tab.call("Page.captureScreenshot", format="png", clip={**clip, "scale": 1})
        if tab.complaints:
            raise RuntimeError(f"{page}: {tab.complaints}")
    out.write_bytes(base64.b64decode(taken["data"]))


def _resize(tab: Page, width: int, height: int) -> None:
    tab.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.screenshot", description=(__doc__ or "").splitlines()[2])
    parser.add_argument("page", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--of", help="CSS selector of one element")
    parser.add_argument("--width", type=int, default=1200)
    parser.add_argument("--height", type=int, default=900)
    parser.add_argument("--dark", action="store_true", help="as readers see it who prefer dark pages")
    parser.add_argument("--print", dest="printed", action="store_true", help="as it is printed")
    take(**vars(parser.parse_args()))
