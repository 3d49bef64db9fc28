"""The documentation builds without a warning, holds every page, and no link inside it leads nowhere."""

import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest

from support.launch import launch

SPHINX = (sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-b", "html")
MADE_BY_SPHINX = {"genindex.html", "search.html"}


class Page(HTMLParser):
    """What a page can be linked at, and what it links to."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links = set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, _, attributes):
        for name, value in attributes:
            if name == "id":
                self.ids.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)


@pytest.fixture(scope="module")
def site(checkout, tmp_path_factory):
    """The folder of the built site."""
    pytest.importorskip("sphinx", reason="the extra `docs` is not installed")
    folder = tmp_path_factory.mktemp("site")
    run = launch("-d", folder / "doctrees", checkout / "docs", folder / "html", program=SPHINX, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder / "html"


@pytest.fixture
def sections(checkout, monkeypatch):
    monkeypatch.syspath_prepend(checkout / "docs")
    return pytest.importorskip("site_sections", reason="the extra `docs` is not installed")


def broken(folder, pages, page):
    """The links of a page of the site that lead to no file, or to no place in it."""
    for link in pages[page].links:
        parts = urlsplit(link)
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        if parts.scheme or parts.netloc:
            continue
        place = unquote(parts.fragment)
        lost = target in pages and place and place not in pages[target].ids
        if lost or not target.is_file() or not target.is_relative_to(folder):
            yield link


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_is_whole(site, checkout):
    pages = {path: Page(path) for path in site.rglob("*.html")}
    for source in checkout.glob("docs/*.md"):
        assert site / f"{source.stem}.html" in pages
    assert {page.name: list(broken(site, pages, page)) for page in pages if any(broken(site, pages, page))} == {}


@pytest.mark.slow
def test_the_site_shows_the_files_of_the_repository_that_pages_link_to(site):
    shown = (site / "repository/jobs/own/job.yaml.html").read_text()
    assert "own:network" in shown
    listed = Page(site / "repository/jobs/li2018.html").links
    assert "li2018/laptop.html" in listed


@pytest.mark.slow
def test_every_page_is_in_the_navigation(site):
    reached = set(Page(site / "index.html").links)
    for page in site.glob("*.html"):
        assert page.name in reached | MADE_BY_SPHINX | {"index.html"}


@pytest.mark.slow
def test_sections_of_the_root_page_become_the_navigation(sections, tmp_path):
    text = (
        "# Title\n[a](lost.md)\n## Start\n- [One](one.md), [x](https://b.md/c.md)\n\n## Use\n\n## End\n[Two](two.md)\n"
    )
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "index.rst").touch()
    trees = sections.navigation(text, tmp_path)
    assert [line for line in trees.splitlines() if line.startswith(":caption")] == [
        f":caption: {name}" for name in ("Start", "Use", "End")
    ]
    assert "one\n```" in trees
    assert "examples/index\n```" in trees
    assert "two\n```" in trees
    assert "lost" not in trees
