"""Sphinx configuration of the website; `make site` fills build/site-source with pages."""

import os

project = "Deep Generative Models"
author = "the course's authors"
project_copyright = "text CC BY 4.0, code MIT"
extensions = ["myst_nb"]
root_doc = "index"
exclude_patterns = ["_build"]

nb_execution_mode = "off"  # notebooks arrive executed
nb_merge_streams = True
nb_ipywidgets_js = {}
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 4
suppress_warnings = ["mystnb.unknown_mime_type", "myst.header"]

html_theme = "furo"
html_title = project
html_copy_source = False
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
if os.environ.get("GDM_MATHJAX"):  # a folder inside _static
    mathjax_path = os.environ["GDM_MATHJAX"]
