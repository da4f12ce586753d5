"""Which calls in the dashboard change something, found by reading the code, and which role is checked before them.

A function of `store`, `pipelines` or `gateway` changes something when it hands work to the writer of a store, or calls
one that does. A call of such a function in the dashboard is guarded when

- it stands in a lambda or an inner function of a function that calls `perform` (or one of the module that does), or
  is kept under a name there, or
- after a call of `permit` in the same function, or
- in a function of the module that is only ever named in places that are guarded.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_LAYERS = ("store", "pipelines", "gateway")
# What hangs on the runtime and changes things: `runtime.runner.start(...)` and the like.
_METHODS = {
    "runner": {"start", "run", "cancel"},
    "loads": {"cancel", "submit", "load", "close"},
    "uploads": {"receive", "submit", "discard", "resume"},
    "store": {"write", "submit"},
}
_RANKS = {"viewer": 0, "reviewer": 1, "admin": 2}
_Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass(frozen=True)
class Found:
    """A call in the dashboard that changes something.

    `role` is the lowest one that gets there, None for everybody; `within` the function of the module that checks it,
    empty when those that call it do; `target` the dotted name of what is called.
    """

    module: str
    line: int
    function: str
    role: str | None
    within: str
    target: str


def calls() -> list[Found]:
    """Every call in the dashboard that changes something, in order of the files."""
    return [found for path in sorted((ROOT / "dashboard").rglob("*.py")) for found in _Module(path).found()]


def of_source(source: str) -> list[Found]:
    """The same of one module's text; for tests of this reading itself."""
    return list(_Module(ROOT / "dashboard" / "made_up.py", source).found())


class _Module:
    """One file with what its names mean."""

    def __init__(self, path: Path, source: str | None = None) -> None:
        self.name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        self.tree = _tree(path) if source is None else ast.parse(source)
        self.imported = _imported(self.tree)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node of the file."""
        return list(ast.walk(self.tree))

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        """The node that each node stands in."""
        return {child: node for node in self.nodes for child in ast.iter_child_nodes(node)}

    @cached_property
    def guards(self) -> dict[str, str]:
        """The functions that check a role before they do what they are given, with the lowest role."""
        held = {"perform": "reviewer"}
        for function in self.tree.body:
            if isinstance(function, ast.FunctionDef):
                roles = [_stated(call, "reviewer") for call in _calls(function) if _called(call.func) == "perform"]
                if roles:
                    held[function.name] = min(roles, key=_RANKS.__getitem__)
        return held

    def target(self, function: ast.expr) -> str | None:
        """The dotted name of what is called or handed over, as far as it is a name."""
        if isinstance(function, ast.Name):
            return self.imported.get(function.id, f"{self.name}.{function.id}")
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            base = self.imported.get(function.value.id)
            return f"{base}.{function.attr}" if base else None
        return None

    def found(self) -> Iterator[Found]:
        """Where changing functions are called, or handed over."""
        for node in self.nodes:
            if not isinstance(node, ast.Name | ast.Attribute) or (target := self._changes(node)) is None:
                continue
            chain = list(self._functions(node))
            outermost = chain[-1] if chain else None
            role = self._here(node, chain)
            within = outermost.name if isinstance(outermost, ast.FunctionDef) else ""
            if role is None and (role := self._role(node, frozenset())) is not None:
                within = ""
            yield Found(self.name, node.lineno, ast.unparse(node), role, within, target)

    def _changes(self, node: ast.Name | ast.Attribute) -> str | None:
        """What is named there, when it changes something."""
        if isinstance(node, ast.Attribute):
            owner = node.value
            called = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
            if called not in self.imported and node.attr in _METHODS.get(called, ()):
                return f"{called}.{node.attr}"
        named = self.target(node)
        return named if named is not None and canonical(named) in changing() else None

    def _here(self, node: ast.AST, chain: list[_Scope]) -> str | None:
        """The role that the functions around a node ask for themselves."""
        for scope in chain:
            if (role := _permitted(scope, node)) is not None:
                return role
        if len(chain) > 1 or (chain and self._kept(node)):
            roles = [
                _stated(call, self.guards[_called(call.func)])
                for call in _calls(chain[-1])
                if _called(call.func) in self.guards
            ]
            if roles:
                return min(roles, key=_RANKS.__getitem__)
        return None

    def _role(self, node: ast.AST, asked: frozenset[str]) -> str | None:
        """The lowest role with which a node is reached."""
        chain = list(self._functions(node))
        if not chain:
            return None
        if (role := self._here(node, chain)) is not None:
            return role
        outermost = chain[-1]
        if isinstance(outermost, ast.Lambda) or outermost.name in asked:
            return None
        uses = [
            self._role(other, asked | {outermost.name})
            for other in self.nodes
            if isinstance(other, ast.Name) and other.id == outermost.name and isinstance(other.ctx, ast.Load)
        ]
        return None if not uses or None in uses else min(uses, key=lambda role: _RANKS[role or "viewer"])

    def _functions(self, node: ast.AST) -> Iterator[_Scope]:
        """The functions that a node stands in, the innermost first."""
        while (parent := self.parents.get(node)) is not None:
            if isinstance(parent, _Scope):
                yield parent
            node = parent

    def _kept(self, node: ast.AST) -> bool:
        """Whether a function is only given a name here, and not called."""
        parent = self.parents[node]
        while isinstance(parent, ast.IfExp):
            parent = self.parents[parent]
        return isinstance(parent, ast.Assign)


def _permitted(scope: _Scope, node: ast.AST) -> str | None:
    """The role that `permit` asks for in the function itself, on every way, before the node is reached."""
    block = scope.body if isinstance(scope.body, list) else []
    while block:
        inner: list[ast.stmt] = []
        for statement in block:
            plain = statement.value if isinstance(statement, ast.Expr | ast.Assign) else None
            if isinstance(plain, ast.Call) and _called(plain.func) == "permit" and plain.lineno < node.lineno:  # type: ignore[attr-defined]
                return _stated(plain, "")
            if statement.lineno <= node.lineno <= (statement.end_lineno or 0):  # type: ignore[attr-defined]
                inner = [] if isinstance(statement, _Scope) else list(getattr(statement, "body", []))
                break
        block = inner
    return None


@cache
def changing() -> frozenset[str]:
    """The dotted names of the functions of the lower layers that change something."""
    uses: dict[str, set[str]] = {}
    direct: set[str] = set()
    for layer in _LAYERS:
        for path in sorted((ROOT / layer).rglob("*.py")):
            module = _Module(path)
            for function in module.tree.body:
                if not isinstance(function, ast.FunctionDef):
                    continue
                name = f"{module.name}.{function.name}"
                uses[name] = set()
                for call in _calls(function):
                    if isinstance(call.func, ast.Attribute) and call.func.attr in ("write", "submit"):
                        owner = ast.unparse(call.func.value)
                        if owner == "store" or owner.endswith((".store", "_store")):
                            direct.add(name)
                    if (target := module.target(call.func)) is not None:
                        uses[name].add(canonical(target))
    known = direct
    while True:
        more = {name for name, called in uses.items() if called & known} | known
        if more == known:
            return frozenset(known)
        known = more


@cache
def canonical(name: str) -> str:
    """Where a function that a module passes on is defined."""
    module, _, function = name.rpartition(".")
    if module.partition(".")[0] not in _LAYERS:
        return name
    place = ROOT / Path(*module.split("."))
    path = next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)
    defined = _passed_on(path).get(function, name) if path is not None else name
    return name if defined == name else canonical(defined)


@cache
def _passed_on(path: Path) -> dict[str, str]:
    return _imported(_tree(path))


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imported(tree: ast.Module) -> dict[str, str]:
    """What a module imports, by the names under which it has it."""
    held: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Import):
            held |= {(name.asname or name.name): name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            held |= {(name.asname or name.name): f"{node.module}.{name.name}" for name in node.names}
    return held


def _calls(scope: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(scope) if isinstance(node, ast.Call))


def _called(function: ast.expr) -> str:
    """The last part of the name of what is called."""
    if isinstance(function, ast.Name):
        return function.id
    return function.attr if isinstance(function, ast.Attribute) else ""


def _stated(call: ast.Call, otherwise: str) -> str:
    """The role that a call of `perform` or `permit` states. One that is not written out counts as the lowest."""
    given = next((keyword.value for keyword in call.keywords if keyword.arg == "role"), None)
    if given is None and _called(call.func) == "permit" and call.args:
        given = call.args[0]
    if given is None:
        return otherwise
    return str(given.value) if isinstance(given, ast.Constant) else "viewer"
