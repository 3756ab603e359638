"""A version of the code behind a stage: a hash over its module and all it imports from here."""

import ast
import functools
import hashlib
import importlib.util
import sys
from pathlib import Path

from eo_causal.run.registry import resource_folder


@functools.cache
def code_version(module: str) -> str:
    """SHA-256 over the sources of a module and of every eo_causal module it imports.

    The ``report``, ``run`` and ``cli`` floors count only for stages that live there, because
    floors below never import them.

    Parameters
    ----------
    module : str
        Dotted name of the module that holds the stage function.
    """
    seen: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _source(name)
        if name in seen or path is None:
            continue
        text = path.read_text(encoding="utf-8")
        seen[name] = hashlib.sha256(text.encode()).hexdigest()
        waiting += _imports(text)
    listed = "".join(f"{name} {seen[name]}\n" for name in sorted(seen))
    return hashlib.sha256(listed.encode()).hexdigest()


def _source(name: str) -> Path | None:
    if name.startswith("eo_causal_pipelines."):
        return resource_folder("pipelines") / f"{name.partition('.')[2]}.py"
    if name in sys.modules and getattr(sys.modules[name], "__file__", None):
        path = Path(str(sys.modules[name].__file__))
        return path if path.suffix == ".py" else None
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _imports(text: str) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return [name for name in found if name.split(".")[0] == "eo_causal"]
