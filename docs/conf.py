# SPDX-License-Identifier: Apache-2.0
"""How Sphinx builds the documentation."""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from sphinx.util.nodes import make_refnode

from airflow_provider_losant import __version__

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

# Autodoc imports the modules, and with them Airflow: it gets a home folder of its own.
_home = tempfile.TemporaryDirectory(prefix="losant-docs-")
os.environ["AIRFLOW_HOME"] = _home.name
logging.getLogger("airflow").setLevel(logging.WARNING)

project = "airflow-provider-losant"
version = release = __version__
project_copyright = "the authors of airflow-provider-losant"

extensions = ["myst_parser"]
exclude_patterns = ["_build", "project/fault-table.md"]  # the table is part of another page
html_theme = "furo"
html_title = f"Losant for Airflow {__version__}"
html_static_path = ["_static"]
html_css_files = ["docs.css"]

# Anchors for links like quickstart.md#find-the-ids.
myst_heading_anchors = 3

extensions += ["sphinx.ext.autodoc"]
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"

_MODELS = "airflow_provider_losant.api.model."

nitpicky = True
# A build needs no internet, so names from other projects have no link.
_FOREIGN = ("collections", "datetime", "os", "pathlib", "ssl", "typing", "airflow", "jinja2", "requests")
# Names that modules import for the type checker only.
_FOREIGN_NAMES = ["Any", "Asset", "AssetWatcher", "Context", "Mapping", "PathLike", "SSLContext", "Sequence"]
_FOREIGN_NAMES += ["TaskDecorator", "Unpack", "timedelta", r"Airflow\w+", "KeyError", "ValueError"]
# Named literals: their values are listed with the argument.
_LITERALS = ("IfExists", "IfRunning", "Kind", "OnExceeded", "SaveOutputsWhen", "SortField", "Window")
# Types that users do not handle themselves.
_INNER = ("NotebookTask", "Target", "Upload")
nitpick_ignore_regex = [
    (r"py:(class|exc)", rf"({'|'.join(_FOREIGN)})(\..+)?"),
    (r"py:(class|exc)", "|".join((*_FOREIGN_NAMES, *_LITERALS, *_INNER))),
]


def _readable(
    _app: Sphinx, kind: str, name: str, it: Any, _options: object, signature: str | None, gives: str
) -> tuple[str, str] | None:
    """Omit constructors that users do not call (models, exceptions); show the values of constants."""
    if not signature:
        return None
    if kind == "exception" or (kind == "class" and name.startswith(_MODELS)):
        return "", gives
    module = vars(sys.modules[it.__module__])
    named = re.compile(r"(?<== )([a-z_]+\.)?(default_\w+|[A-Z_]{3,})(?=[,)])")
    names = {key: value for base in reversed(getattr(it, "__mro__", ())) for key, value in vars(base).items()}
    # A dataclass creates such a value for each object.
    shown = signature.replace("<factory>", "{}")
    return named.sub(lambda found: repr(eval(found[0], module, names)), shown), gives  # noqa: S307 - our own


def _find_by_last_name(app: Sphinx, env: Any, node: Any, shown: nodes.Element) -> nodes.Element | None:
    """Resolve a bare name to the only documented object that has it."""
    if node.get("refdomain") != "py":
        return None
    tail = "." + node["reftarget"].rpartition(".")[2]
    known = env.domains.python_domain.objects.items()
    found = [it for name, it in known if name.endswith(tail) and not it.aliased]
    if len(found) != 1:
        return None
    return make_refnode(app.builder, node["refdoc"], found[0].docname, found[0].node_id, shown)


def setup(app: Sphinx) -> None:
    """Register the functions above."""
    app.connect("autodoc-process-signature", _readable)
    app.connect("missing-reference", _find_by_last_name)
