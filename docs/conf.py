"Sphinx's settings. `tools/docs.py` writes the pages beside a copy of this file and builds them: `make docs`."

import re
from addresses import settings

KIT = settings()

project = "VidPrism"
author = KIT["author"]
copyright = KIT["copyright"]
release = version = KIT["version"]
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx-mathjax-offline",
]

# A missing reference is a warning, and `tools/docs.py` builds with warnings as errors.
nitpicky = True
# Types of other libraries: their pages cannot be reached without a network.
nitpick_ignore_regex = [("py:.*", r"(?!vidprism\b).*")]

nb_execution_mode = "off"
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath", "html_image"]
myst_heading_anchors = 3
# `ref.python`: several classes have an attribute `name`, and a docstring names one of them.
suppress_warnings = ["mystnb.unknown_mime_type", "ref.python"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_use_ivar = True
viewcode_follow_imported_members = True

html_theme = "pydata_sphinx_theme"
html_title = "VidPrism"
html_static_path = ["_static"]
html_css_files = ["kit.css"]
html_show_sourcelink = False
html_show_search_summary = False  # summaries are fetched, which a browser refuses in a folder
html_context = {"default_mode": "auto"}
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "use_edit_page_button": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


def without_ranges(app, what, name, value, options, signature, returned):
    "Signatures name the type of a number; its range stands in the description."
    texts = (signature, returned)
    return tuple(text and re.sub(r"Annotated\[(\w+)(?:, \w+\([^)]*\))+\]", r"\1", text) for text in texts)


def setup(app):
    "Register what Sphinx calls."
    app.connect("autodoc-process-signature", without_ranges)
