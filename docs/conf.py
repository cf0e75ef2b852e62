"""How Sphinx builds these pages: `scripts/docs` runs it, strictly."""
# ruff: noqa: INP001  # Sphinx reads it; it is no package

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

from airflow_provider_stability import __version__  # noqa: E402  # found by the path above

project = "airflow-provider-stability"
author = "The airflow-provider-stability contributors"
project_copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "from_code"]
exclude_patterns = ["_ext"]

highlight_language = "none"  # of blocks that name no language: they are shell commands and log lines

html_theme = "furo"
html_title = f"{project} {release}"
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["wide.css"]

# `[words](page.md#a-heading)` works here as it does on a forge; a heading that is not there is a warning.
myst_heading_anchors = 3

autodoc_member_order = "bysource"
# Airflow calls these, or pydantic reads them; whoever uses a class does not.
autodoc_default_options = {
    "exclude-members": "choose_branch, execute, execute_complete, get_connection_form_widgets, get_link, "
    "get_ui_field_behaviour, model_config, poke, resume_execution, serialize"
}
autodoc_typehints_format = "short"
# Other projects' types: nothing is fetched when these pages are built, so they have nowhere to link to.
nitpick_ignore_regex = [("py:.*", r"(?!airflow_provider_stability\.).*")]
