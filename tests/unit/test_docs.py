"""The documents say what the code says: every error code, every setting, every metric, and no link into nowhere."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import metrics
from runtime.settings import Secret, Settings, setting_names

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
# Where what the API answers is decided. A code that only `meterstream migrate` or `key` can show is documented too.
SOURCES = [path for part in ("api", "documents", "domain", "stores") for path in sorted((ROOT / part).rglob("*.py"))]
RAISED = {"Invalid": 0, "NotFound": 0, "Conflict": 0}
CODE = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
ROW = re.compile(r"^\| `([a-z0-9_]+)` \|", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
NAMED_FILE = re.compile(
    r"`((?:api|documents|streams|stores|domain|schemas|runtime|cli|workflows|ch_migrations)/[\w/.]+\.\w+)`"
)


class _Codes:
    """Error codes of source files: what stands where a parameter called `code` takes it."""

    def __init__(self, trees: list[ast.Module]) -> None:
        self._nodes = [node for tree in trees for node in ast.walk(tree)]
        self._constants: dict[str, set[str]] = {}
        for name, text in self._texts_of_constants():
            self._constants.setdefault(name, set()).add(text)
        self._positions = {**RAISED, **dict(self._takers())}

    def found(self) -> set[str]:
        codes: set[str] = set()
        for node in self._nodes:
            if isinstance(node, ast.Call):
                codes.update(self._of_call(node))
            elif isinstance(node, ast.Assign) and any("code" in name.lower() for name in _names(node.targets)):
                codes.update(text for value in _parts(node.value) for text in self._texts(value))
        return {code for code in codes if CODE.fullmatch(code)}

    def _of_call(self, call: ast.Call) -> Iterator[str]:
        name = _called(call)
        for keyword in call.keywords:
            if keyword.arg == "code":
                yield from self._texts(keyword.value)
        position = self._positions.get(name)
        if position is not None and position < len(call.args):
            yield from self._texts(call.args[position])
        if name == "find":  # stores/postgres/rows.py makes `<what>_not_found` of its last argument
            yield from (f"{what}_not_found" for what in self._texts(call.args[-1]))
        if name == "Unavailable" and call.args:
            yield from (f"{service}_unavailable" for service in self._texts(call.args[0]))

    def _texts(self, node: ast.expr) -> list[str]:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return [node.value]
        if isinstance(node, ast.Name):
            return sorted(self._constants.get(node.id, ()))
        if isinstance(node, ast.IfExp):
            return [*self._texts(node.body), *self._texts(node.orelse)]
        return []

    def _texts_of_constants(self) -> Iterator[tuple[str, str]]:
        for node in self._nodes:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                for name in _names(node.targets):
                    if name.isupper() and isinstance(node.value.value, str):
                        yield name, node.value.value

    def _takers(self) -> Iterator[tuple[str, int]]:
        for node in self._nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names = [argument.arg for argument in node.args.args if argument.arg != "self"]
                if "code" in names and node.name != "__init__":
                    yield node.name, names.index("code")


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def _names(targets: list[ast.expr]) -> list[str]:
    flat = [part for target in targets for part in (target.elts if isinstance(target, ast.Tuple) else [target])]
    names = [target.id for target in flat if isinstance(target, ast.Name)]
    return [*names, *(target.attr for target in flat if isinstance(target, ast.Attribute))]


def _parts(value: ast.expr) -> list[ast.expr]:
    if isinstance(value, ast.Dict):
        return list(value.values)
    return list(value.elts) if isinstance(value, ast.Tuple) else [value]


def _anchors(page: Path) -> set[str]:
    titles = HEADING.findall(page.read_text())
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_every_error_code_is_in_the_table_of_the_api_guide() -> None:
    raised = _Codes([ast.parse(path.read_text()) for path in SOURCES]).found()
    documented = set(ROW.findall((DOCS / "api.md").read_text()))
    assert raised - documented == set(), "add rows to the table of codes in docs/api.md"
    assert documented - raised == set(), "no code raises these any more: take their rows out of docs/api.md"


def test_every_setting_is_documented_with_its_default() -> None:
    rows = re.findall(r"^\| `(METERSTREAM_\w+)` \| (.*?) \|", (DOCS / "settings.md").read_text(), re.MULTILINE)
    settings = Settings()
    defaults = {
        name: _default(getattr(getattr(settings, group), field)) for name, (group, field, _) in setting_names().items()
    }
    assert dict(rows) == defaults
    assert len(rows) == len(defaults), "a setting stands there twice"


def _default(value: object) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    text = value.reveal() if isinstance(value, Secret) else str(value)
    return f"`{text}`" if text else "empty"


def test_the_runbook_names_no_metric_that_does_not_exist() -> None:
    named = set(re.findall(r"`(meterstream_[a-z_]+)`", (DOCS / "runbook.md").read_text()))
    types = [line.split(" ")[2] for line in metrics.exposition().decode().splitlines() if line.startswith("# TYPE ")]
    assert named <= set(types)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_documents_resolve(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{target} leads nowhere"
        assert not anchor or anchor in _anchors(linked), f"{target} names no heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_documents_name_exist(page: Path) -> None:
    missing = [name for name in NAMED_FILE.findall(page.read_text()) if not (ROOT / name).exists()]
    assert missing == []
