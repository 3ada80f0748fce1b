"""The site: python -m sphinx -b html -W --keep-going docs docs/_build/html

It runs the examples of the gallery, which takes minutes; DOCS_RUN_EXAMPLES=0 shows only their code.
DOCS_VERSIONS is the address of the versions.json that versions.py wrote: pages then have a menu of
versions.
"""

import importlib.metadata
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # where the extension api_pages is

project = "sklearn_ssl"
author = copyright = "the sklearn_ssl developers"
version = release = importlib.metadata.version("sklearn-ssl")

extensions = [
    "api_pages",
    "myst_parser",
    "sphinx.ext.autodoc",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "paper", "Thumbs.db"]

myst_heading_anchors = 3

autodoc_typehints = "none"  # the docstrings say it in words
autodoc_inherit_docstrings = False
numpydoc_show_class_members = False
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples/tasks",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"\.py$",
    "plot_gallery": os.environ.get("DOCS_RUN_EXAMPLES") != "0",
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "write_computation_times": False,
}

html_theme = "pydata_sphinx_theme"
html_title = f"{project} {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_logo = html_favicon = "_static/logo.svg"
html_theme_options = {
    "logo": {"text": project},
    "show_nav_level": 1,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 5,  # all sections
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
}
if versions := os.environ.get("DOCS_VERSIONS"):
    short = ".".join(version.split(".")[:2])
    html_theme_options["switcher"] = {"json_url": versions, "version_match": short}
    html_theme_options["check_switcher"] = False  # it is not there when the first site is built
    html_theme_options["navbar_end"] = ["version-switcher", "theme-switcher", "navbar-icon-links"]
html_show_sourcelink = False
