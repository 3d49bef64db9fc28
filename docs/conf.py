"""The documentation site: Markdown pages as they are, in the sections that index.md has; knows no page's content."""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))  # where the extensions below are

project = "landscape_mpi"
author = "the authors of landscape_mpi"
extensions = ["myst_parser", "sphinx_copybutton", "site_sections", "site_repository"]
exclude_patterns = ["_build", "gallery", "sg_execution_times.rst"]
nitpicky = True
smartquotes = False  # two dashes are a flag

myst_heading_anchors = 4

html_theme = "furo"
html_title = "landscape_mpi"
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False

GALLERY = DOCS / "gallery"
if list(GALLERY.glob("plot_*.py")):
    extensions.append("sphinx_gallery.gen_gallery")
    sphinx_gallery_conf = {
        "examples_dirs": str(GALLERY),
        "gallery_dirs": "examples",
        "filename_pattern": "/plot_",
        "abort_on_example_error": True,
        "download_all_examples": False,
        "show_memory": False,
    }
