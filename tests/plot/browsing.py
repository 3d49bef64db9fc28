"""Opens pages of surfaces in a real Chromium and says what they show; knows nothing of what they should."""

import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np

from landscape_mpi.plot.options import Options
from landscape_mpi.plot.page import content, html
from support.parts import browser

ARGUMENTS = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
PATIENCE = 30_000  # ms: nothing waits that long unless something is broken, but machines may be busy
DESKTOP = {"viewport": {"width": 900, "height": 600}}
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
NO_WEBGL = """
const get = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
  return kind.includes("webgl") ? null : get.call(this, kind, ...more);
};
"""
SMALL = ".pair > .relief { height: 180px }"  # what a browser without a GPU has to paint takes it long
AT_FIRST = {"metric": "train_loss", "scale": "linear", "low": "", "high": "", "place": {"alpha": 0, "beta": 0}}


@contextmanager
def running():
    """Run a browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=browser(), args=[*ARGUMENTS])
        yield program
        program.close()


def opened(chromium, folder, surfaces, options=None, *, webgl=True, **browser_options):
    """Write a page of some surfaces and open it; what it asks the network for and complains of is kept."""
    context = chromium.new_context(offline=True, **browser_options)
    context.set_default_timeout(PATIENCE)
    context.set_default_navigation_timeout(4 * PATIENCE)
    if not webgl:
        context.add_init_script(NO_WEBGL)
    page = context.new_page()
    seen = SimpleNamespace(page=page, requests=[], complaints=[])
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on("console", lambda said: seen.complaints.append(said.text) if said.type == "error" else None)
    file = folder / f"{len(list(folder.iterdir()))}.html"
    file.write_text(
        html(content(surfaces, options or Options())).replace("</style>", f"{SMALL}</style>"), encoding="utf-8"
    )
    page.goto(file.as_uri())
    return seen


def as_at_first(page):
    """Bring a page of two planes back to what it showed first."""
    page.mouse.move(0, 0)
    page.evaluate(
        """(first) => {
            control.low.value = control.high.value = "";
            const differs = (key) => JSON.stringify(state[key]) !== JSON.stringify(first[key]);
            if (Object.keys(first).some(differs)) change(first);
            if (anglesOf(state.camera).map(Math.round).join() !== `${TURN},${TILT}`) look(cameraAt(TURN, TILT));
        }""",
        AT_FIRST,
    )
    return page


def heights(page, number=0):
    """What the surface in three dimensions is drawn from."""
    return np.array(page.evaluate(f"document.querySelectorAll('.relief')[{number}].data[0].z"), float)


def eye(page, number):
    camera = f"document.querySelectorAll('.relief')[{number}]._fullLayout.scene._scene.getCamera().eye"
    return page.evaluate(f"[{camera}.x, {camera}.y, {camera}.z]")


def drawn(page, place):
    """The traces of a plot."""
    return page.evaluate(f"document.querySelector('{place}').data")


def plain(text):
    """A text of the page, in the letters of this file."""
    return text.replace("\N{GREEK SMALL LETTER ALPHA}", "alpha").replace("β", "beta").replace("\N{MINUS SIGN}", "-")


def told(page):
    """What the page says of the point."""
    return plain(page.locator("#point").inner_text())


def until(page, expression):
    """Wait until something is true; the page's policy forbids playwright's own way, which evaluates a text."""
    end = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(50)


def point_at(page, x, y):
    """Move the mouse there in small steps until plotly has said what lies under it, which takes it a frame or more."""
    end = time.monotonic() + PATIENCE / 1000
    while page.evaluate("pointer.over === null"):
        assert time.monotonic() < end, "nothing is under the mouse"
        page.mouse.move(x - 4, y - 2)
        page.mouse.move(x, y, steps=2)
        page.wait_for_timeout(100)


def middle(page, place):
    page.locator(place).first.scroll_into_view_if_needed()
    box = page.locator(place).first.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
