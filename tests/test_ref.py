"""A reference finds its callable and hashes all the code behind it."""

from __future__ import annotations

import importlib.metadata
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekd.errors import RecipeError
from edgekd.ref import resolve


@pytest.fixture(autouse=True)
def _forget_modules() -> Iterator[None]:
    """What a test imports by way of its recipe folder is gone after it."""
    modules, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def refused(spec: str, folder: Path) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        resolve(spec, folder)
    return caught.value


def test_a_module_beside_the_recipe_gives_its_callable(tmp_path: Path) -> None:
    (tmp_path / "nets_a.py").write_text("def make():\n    return 41\n")
    assert resolve("nets_a:make", tmp_path).load()() == 41


def test_two_recipes_may_name_their_modules_alike(tmp_path: Path) -> None:
    for name, value in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "nets_b.py").write_text(f"def make():\n    return {value}\n")
    assert [resolve("nets_b:make", tmp_path / name).load()() for name in ("one", "two")] == [1, 2]


def test_a_types_py_beside_the_recipe_is_found_and_shadows_nothing(tmp_path: Path) -> None:
    (tmp_path / "types.py").write_text("def make():\n    return 'mine'\n")
    (tmp_path / "nets_c.py").write_text("import types\ndef make():\n    return types.SimpleNamespace\n")
    assert resolve("types:make", tmp_path).load()() == "mine"
    assert resolve("nets_c:make", tmp_path).load()() is types.SimpleNamespace
    assert sys.modules["types"] is types


def test_modules_that_are_imported_on_the_way_are_part_of_the_hash(tmp_path: Path) -> None:
    (tmp_path / "nets_d.py").write_text("from parts_d import half\ndef make():\n    return half\n")
    (tmp_path / "parts_d.py").write_text("import math\nimport leaf_d\nhalf = leaf_d.half\n")
    (tmp_path / "leaf_d.py").write_text("half = 0.5\n")
    (tmp_path / "other_d.py").write_text("unused = 1\n")
    assert set(resolve("nets_d:make", tmp_path).content()["sources"]) == {"nets_d", "parts_d", "leaf_d"}


@pytest.mark.parametrize("name", ["nets_e", "parts_e", "leaf_e"])
def test_an_edit_anywhere_behind_the_callable_changes_the_content(tmp_path: Path, name: str) -> None:
    (tmp_path / "nets_e.py").write_text("import parts_e\ndef make():\n    pass\n")
    (tmp_path / "parts_e.py").write_text("def f():\n    import leaf_e\n")
    (tmp_path / "leaf_e.py").write_text("")
    before = resolve("nets_e:make", tmp_path).content()
    file = tmp_path / f"{name}.py"
    file.write_text(file.read_text() + "# edited\n")
    after = resolve("nets_e:make", tmp_path).content()
    assert {key for key in after["sources"] if after["sources"][key] != before["sources"][key]} == {name}


def test_an_edit_of_code_that_nothing_imports_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "nets_f.py").write_text("def make():\n    pass\n")
    before = resolve("nets_f:make", tmp_path).content()
    (tmp_path / "other_f.py").write_text("x = 1\n")
    assert resolve("nets_f:make", tmp_path).content() == before


def test_modules_that_import_each_other_are_hashed_once(tmp_path: Path) -> None:
    (tmp_path / "nets_g.py").write_text("def make():\n    import round_g\n")
    (tmp_path / "round_g.py").write_text("import nets_g\n")
    assert set(resolve("nets_g:make", tmp_path).content()["sources"]) == {"nets_g", "round_g"}


def test_relative_imports_of_a_package_are_followed(tmp_path: Path) -> None:
    package = tmp_path / "pack_h"
    package.mkdir()
    (package / "__init__.py").write_text("from .inner import make\nfrom . import more\n")
    (package / "inner.py").write_text("def make():\n    return 7\n")
    (package / "more.py").write_text("")
    ref = resolve("pack_h:make", tmp_path)
    assert ref.load()() == 7
    assert set(ref.content()["sources"]) == {"pack_h", "pack_h.inner", "pack_h.more"}


def test_the_content_does_not_tell_where_the_recipe_lies(tmp_path: Path) -> None:
    contents = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "nets_i.py").write_text("def make():\n    pass\n")
        contents.append(resolve("nets_i:make", tmp_path / name).content())
    assert contents[0] == contents[1]


def test_installed_code_stands_for_itself_by_distribution_and_version(tmp_path: Path) -> None:
    content = resolve("numpy.linalg:norm", tmp_path).content()
    assert content == {"spec": "numpy.linalg:norm", "sources": {"numpy": importlib.metadata.version("numpy")}}


def test_our_own_code_is_hashed_by_source_as_far_as_it_reaches(tmp_path: Path) -> None:
    sources = resolve("edgekd.errors:did_you_mean", tmp_path).content()["sources"]
    assert set(sources) == {"edgekd.errors"}
    assert len(sources["edgekd.errors"]) == 64


@pytest.mark.parametrize("spec", ["nets", "nets:", ":make", ""])
def test_another_form_is_refused(tmp_path: Path, spec: str) -> None:
    assert refused(spec, tmp_path).message == f'"{spec}" is not of the form module:callable'


def test_a_missing_module_is_named(tmp_path: Path) -> None:
    message = refused("no_such_module_j:make", tmp_path).message
    assert message == "\"no_such_module_j:make\" does not import: No module named 'no_such_module_j'"


def test_a_missing_name_suggests_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "nets_k.py").write_text("def resnet20():\n    pass\n")
    error = refused("nets_k:resnet2", tmp_path)
    assert error.message == '"nets_k:resnet2": nets_k has no "resnet2"'
    assert error.hint == 'did you mean "resnet20"?'


def test_what_cannot_be_called_is_refused(tmp_path: Path) -> None:
    (tmp_path / "nets_l.py").write_text("make = 3\n")
    assert refused("nets_l:make", tmp_path).message == '"nets_l:make" is not callable'


@pytest.mark.parametrize("source", ["def make(:\n", "import no_such_module_m\n"])
def test_a_module_that_does_not_import_is_a_recipe_error_each_time(tmp_path: Path, source: str) -> None:
    (tmp_path / "nets_m.py").write_text(source)
    for _ in range(2):
        assert refused("nets_m:make", tmp_path).message.startswith('"nets_m:make" does not import: ')


def test_an_edit_within_one_process_gives_the_new_code(tmp_path: Path) -> None:
    (tmp_path / "helper_e.py").write_text("VALUE = 1\n", encoding="utf-8")
    (tmp_path / "net_e.py").write_text("from helper_e import VALUE\ndef f(): return VALUE\n", encoding="utf-8")
    assert resolve("net_e:f", tmp_path).load()() == 1
    (tmp_path / "helper_e.py").write_text("VALUE = 222\n", encoding="utf-8")
    assert resolve("net_e:f", tmp_path).load()() == 222


def test_helpers_of_two_recipes_may_be_named_alike(tmp_path: Path) -> None:
    refs = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "layers_y.py").write_text(f"NAME = '{name}'\n", encoding="utf-8")
        (folder / "net_y.py").write_text("from layers_y import NAME\ndef f(): return NAME\n", encoding="utf-8")
        refs.append(resolve("net_y:f", folder))
    assert [ref.load()() for ref in refs] == ["a", "b"]


def test_a_package_on_the_way_is_part_of_the_hash(tmp_path: Path) -> None:
    (tmp_path / "pk_w").mkdir()
    (tmp_path / "pk_w/__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "pk_w/sub.py").write_text("def g(): return 1\n", encoding="utf-8")
    (tmp_path / "net_w.py").write_text("from pk_w.sub import g\n", encoding="utf-8")
    assert set(dict(resolve("net_w:g", tmp_path).sources)) == {"net_w", "pk_w", "pk_w.sub"}


def test_code_that_fails_while_it_is_imported_is_a_recipe_error(tmp_path: Path) -> None:
    (tmp_path / "net_f.py").write_text("x = undefined\n", encoding="utf-8")
    assert "NameError" in refused("net_f:x", tmp_path).message


def test_a_relative_reference_is_refused(tmp_path: Path) -> None:
    assert "module:callable" in refused(".rel:f", tmp_path).message
