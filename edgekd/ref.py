"""A reference "module:callable" to code: the callable itself, and a hash of the code behind it."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from edgekd.declared import watched
from edgekd.errors import EdgekdError, RecipeError, did_you_mean
from edgekd.frames import place, said

_PACKAGE = Path(__file__).parent
_UNIQUE = "edgekd_recipe_"
_MARK = "__edgekd_helper__"


@dataclass(frozen=True)
class Ref:
    """Code by name. `sources` is what stands for the code in a key; the folder is only where to find it."""

    spec: str
    folder: Path
    sources: tuple[tuple[str, str], ...]
    files: tuple[str, ...] = ()
    """What the code reads beside its modules; their hashes are among the sources."""
    table: str = ""
    """Of the recipe, where the code is named."""

    def call(self, **arguments: Any) -> Any:  # the callable is the user's, and so are the names
        """Call it. Raises RecipeError where it reads a file beside the recipe that is not declared."""
        made = self.load()
        with watched(self.folder, self.files, self.table):
            return made(**arguments)

    def load(self) -> Callable[..., Any]:
        """Return the callable."""
        return _callable(self.spec, self.folder)

    def content(self) -> dict[str, Any]:
        """Return what is hashed: name, and each source file or distribution behind it."""
        return {"spec": self.spec, "sources": dict(self.sources)}


def resolve(spec: str, folder: Path, files: Sequence[str] = (), table: str = "") -> Ref:
    """Check that "module:callable" can be imported and return it with a hash of its code. Raises RecipeError.

    `files`, relative to the folder, are what the code reads beside its modules; `table` is where the recipe says so.
    """
    module, colon, name = spec.partition(":")
    if not colon or not name or not all(part.isidentifier() for part in module.split(".")):
        raise RecipeError(f'"{spec}" is not of the form module:callable', "for instance torchvision.models:resnet18")
    read = {name: _hash_of(folder / name, f"{table}.files") for name in files}
    with watched(folder, read, table):
        _callable(spec, folder)
    return Ref(spec, folder, tuple(sorted((_sources(module, folder) | read).items())), tuple(read), table)


def _hash_of(file: Path, key: str) -> str:
    if not file.is_file():
        raise RecipeError(f"{key}: no file {file}", "files are relative to the recipe's folder")
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _callable(spec: str, folder: Path) -> Callable[..., Any]:
    module_name, _, name = spec.partition(":")
    module = _module(module_name, folder, spec)
    if not hasattr(module, name):
        known = [known for known in dir(module) if not known.startswith("_")]
        near = did_you_mean(name, known)
        raise RecipeError(f'"{spec}": {module_name} has no "{name}"', near.strip() or "see the module for its names")
    found = getattr(module, name)
    if not callable(found):
        raise RecipeError(f'"{spec}" is not callable', "name a function or a class")
    return found  # type: ignore[no-any-return]


def _module(name: str, folder: Path, spec: str) -> ModuleType:
    """Import a module; one beside the recipe is loaded by its path, so that a types.py there shadows nothing."""
    file = _local(name, folder)
    try:
        return importlib.import_module(name) if file is None else _load_local(name, file, folder)
    except EdgekdError:
        raise
    except ImportError as error:
        raise RecipeError(
            f'"{spec}" does not import: {error}{place(error, folder)}',
            f"is the module installed, or does it lie in {folder.name or '.'}/?",
        ) from None
    except (Exception, SystemExit) as error:
        # The user's own code at import: it may raise anything.
        raise RecipeError(
            f'"{spec}" does not import: {said(error, folder)}', "mend it there: a recipe names code, which is run"
        ) from None


def _load_local(name: str, file: Path, folder: Path) -> ModuleType:
    """Load a module beside the recipe as it is now: another content, or another recipe's, is another module."""
    sources = _walk(name, folder)
    digest = hashlib.sha256(repr((str(folder.absolute()), sorted(sources.items()))).encode()).hexdigest()[:16]
    unique = f"{_UNIQUE}{digest}_{name.replace('.', '_')}"
    if unique in sys.modules:
        return sys.modules[unique]
    _forget_others(folder)
    if "." in name:
        # Inside a package, relative imports need its real name.
        module = sys.modules[unique] = importlib.import_module(name)
    else:
        module = _execute(unique, file)
    for source in sources:
        helper = sys.modules.get(source)
        if helper is not None and helper.__file__ == str(_local(source, folder)):
            setattr(helper, _MARK, True)
    return module


def _execute(unique: str, file: Path) -> ModuleType:
    locations = [str(file.parent)] if file.name == "__init__.py" else None
    description = importlib.util.spec_from_file_location(unique, file, submodule_search_locations=locations)
    if description is None or description.loader is None:
        raise ImportError(f"{file.name} cannot be loaded")
    module = importlib.util.module_from_spec(description)
    sys.modules[unique] = module
    try:
        description.loader.exec_module(module)
    except BaseException:
        del sys.modules[unique]
        raise
    return module


def _forget_others(folder: Path) -> None:
    """Let the next import find this recipe's helpers as they are now, not another recipe's or older ones."""
    for name, module in list(sys.modules.items()):
        if getattr(module, _MARK, False):
            del sys.modules[name]
        if name.startswith(_UNIQUE) and module.__file__:
            other = str(Path(module.__file__).parent)
            if other in sys.path and other != str(folder):
                sys.path.remove(other)
    importlib.invalidate_caches()
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _local(name: str, folder: Path) -> Path | None:
    """Return the file of a module that lies beside the recipe, or None."""
    path = folder.joinpath(*name.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


def _sources(module: str, folder: Path) -> dict[str, str]:
    """Return {module: sha256 of its source} for code beside the recipe and ours, {distribution: version} else."""
    top = module.partition(".")[0]
    if top == "edgekd":
        return _walk(module, _PACKAGE.parent)
    if _local(module, folder) is not None:
        own = _walk(module, folder)
        return own | _installed(own, folder)
    distributions = importlib.metadata.packages_distributions().get(top, [])
    return {name: importlib.metadata.version(name) for name in distributions}


def _installed(own: Iterable[str], folder: Path) -> dict[str, str]:
    """Return {distribution: version} of what a recipe's own modules import from elsewhere."""
    tops: set[str] = set()
    for name in own:
        file = _local(name, folder)
        if file is not None:
            tops |= {imported.partition(".")[0] for imported in _imports(ast.parse(file.read_bytes()), "")}
    homes = importlib.metadata.packages_distributions()
    names = {name for top in tops - set(sys.stdlib_module_names) for name in homes.get(top, [])}
    return {name: importlib.metadata.version(name) for name in names if _local(name, folder) is None}


def _walk(module: str, root: Path) -> dict[str, str]:
    """Hash a module and, recursively, every module below `root` that it imports."""
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        file = _local(name, root)
        if file is None or name in found:
            continue
        source = file.read_bytes()
        found[name] = hashlib.sha256(source).hexdigest()
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        waiting += _imports(ast.parse(source, str(file)), package)
        # A package on the way runs too; ours only collects names.
        waiting += [name.rpartition(".")[0]] if root != _PACKAGE.parent and "." in name else []
    return found


def _imports(tree: ast.AST, package: str) -> list[str]:
    """Return the absolute names of all modules that a syntax tree may import."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".") if package else []
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return names
