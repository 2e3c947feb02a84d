"""What code reaches: from a name through the names that its statements use, over all modules of the user's.

Of every module that is imported on the way, the statements that do more than bind their names are taken too, with what
they use; where names cannot be followed (``globals()``, ``getattr`` of a module), the whole module is.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import re
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from runner.code.slicing.files import Finder, Found
from runner.code.slicing.plain import Plain
from runner.code.slicing.syntax import (
    DOCS,
    SYNTAX,
    TEXT,
    Chain,
    Import,
    Module,
    Statement,
    Uses,
    chain_of,
    names_in,
    parse,
)

#: Words after which a module's own names cannot be followed.
_DYNAMIC = {"globals", "vars", "eval", "exec", "locals"}
#: Attributes of a module by which all of its names are had.
_SPACES = {"__dict__", "__getattribute__"}
#: Attributes of functions and frames by which the names of their modules are had.
_NAMES_OF = {"__globals__", "f_globals"}
#: What looks at the text of code: of its own module where it does not say more, of all that is reached.
_READS_TEXT = {"inspect"}
_READS_ALL_TEXT = {"findsource", "get_source_segment", "getcomments", "getsource", "getsourcelines", "linecache"}
_VARIABLE = re.compile(r"[A-Za-z_]\w*")
_READS_DOCS = {"__doc__", "getdoc"}
_LOOKS = {"exists", "lexists", "isfile", "is_file", "isdir", "is_dir", "access", "stat", "getmtime", "getsize"}
_FILE_NAME = re.compile(r"[\w@+=%-][\w@+=%. -]*(/[\w@+=%. -]+)*")
_READS_HINTS = {
    "__annotations__", "get_annotations", "get_type_hints", "signature", "getfullargspec", "TypeAdapter",
    "validate_call",
}  # fmt: skip
_LONGEST_NAME = 255


class Slice:
    """Collects what names reach.

    Args:
        root: the project's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.finder = Finder(root)
        self.files: set[Path] = set()  # every file that is run, or looked at
        self.packages: set[str] = set()  # top-level names of what is not the user's
        self._plain = Plain(self)
        self._modules: dict[Path, Module | None] = {}
        self._chosen: dict[Path, dict[int, Statement]] = {}
        self._imports: dict[tuple[Path, str], set[str]] = {}
        self._whole: set[Path] = set()
        self._text: set[Path] = set()
        self._docs = self._subclasses = self._hints = self._all_text = False
        self._noted: list[Uses] = []
        self._own_docs: set[Path] = set()  # modules whose docstrings are read
        self._there: set[tuple[Path, str]] = set()  # modules that code would do without
        self._configs: dict[tuple[Path, str], Statement] = {}
        self._seen: set[tuple[object, ...]] = set()
        self._waiting: deque[tuple[Module, Statement]] = deque()
        self._loading: deque[Module] = deque()

    # -- what to take --------------------------------------------------------------------------------------------

    def add(self, path: Path, name: str) -> None:
        """Take what the top-level `name` of a file reaches."""
        module = self._execute_file(path)
        if module is not None:
            if name not in module.binders and not module.stars:
                self._take_whole(module)
            self._want(module, (name,))
        self._work()

    def add_module(self, dotted: Chain, name: str) -> bool:
        """As `add`, for a module by its name. Returns False if it is not the user's."""
        found = self.finder.find(dotted, None)
        for each in found:
            self._follow(each, (name,))
        if not found:
            self.packages.add(dotted[0])
        self._work()
        return bool(found)

    def add_file(self, path: Path) -> None:
        """Take a whole file."""
        module = self._execute_file(path)
        if module is not None:
            self._take_whole(module)
        self._work()

    def add_config(self, path: Path | None, dotted: Chain, name: str) -> None:
        """Take the code of a config's class, but not its fields: their values count by themselves."""
        if path is None:
            owners = [each for found in self.finder.find(dotted, None) if (each := self._execute(found)) is not None]
        else:
            module = self._execute_file(path)
            owners = [module] if module is not None else []
        for owner in owners:
            self._config(owner, (name,))
        self._work()

    def note(self, uses: Uses) -> None:
        """Take what code uses that lies in no file."""
        self._noted.append(uses)

    # -- what was taken ------------------------------------------------------------------------------------------

    def parts(self) -> dict[str, str]:
        """What was taken, as ``file:name`` -> 12 hex digits."""
        found: dict[str, list[str]] = {}
        for path in sorted(self.files, key=lambda path: (not path.is_relative_to(self.root), path)):
            for name, digest in self._file_parts(path):  # two files elsewhere may share a label
                found.setdefault(name, []).append(digest)
        return {name: digests[0] if len(digests) == 1 else _digest(digests) for name, digests in found.items()}

    def _file_parts(self, path: Path) -> Iterator[tuple[str, str]]:
        label, module = self.finder.label(path), self._modules.get(path)
        if module is None:
            yield f"{label} (whole)", _digest([path.read_bytes().hex()])
        elif path in self._whole:
            closely = self._closely(path)
            texts = [s.digest(closely) for s in module.statements]
            yield f"{label} (whole)", _digest(texts if closely != TEXT else [module.data.hex()])
        else:
            yield from self._module_parts(label, module)
        for (owner, name), statement in self._configs.items():
            if owner == path:
                yield f"{label}:{name} (config)", statement.digest(self._closely(path))

    def mentions(self) -> set[Path]:
        """The files of the project, other than modules, that strings of the code name."""
        names: set[Path] = set()
        for path, chosen in self._chosen.items():
            for statement in chosen.values():
                names |= set(self._named_files(statement.uses, path))
        for uses in self._noted:
            names |= set(self._named_files(uses, self.root / "__main__"))
        return {path for path in names if path.suffix != ".py"}

    def looked_for(self) -> set[str]:
        """What may be the name of a file, or the end of its path, if code asks whether files are there."""
        chosen = self._uses()
        if not any(_LOOKS & uses.words for uses in chosen):
            return set()
        texts = (text for uses in chosen for text in uses.strings if len(text) <= _LONGEST_NAME)
        return {text for text in texts if _FILE_NAME.fullmatch(text) and ("." in text or "/" in text)}

    def variables(self) -> set[str]:
        """The variables of the environment that the code reads, and that it does not set itself."""
        chosen = self._uses()
        sets = set[str]().union(*(uses.sets for uses in chosen))
        found = set[str]().union(*(uses.variables for uses in chosen))
        if any(uses.any_variable for uses in chosen):
            texts = (text for uses in chosen for text in uses.strings)
            found |= {text for text in texts if _VARIABLE.fullmatch(text) and text.isupper()}
        return found - sets

    def _uses(self) -> list[Uses]:
        return [*(each.uses for found in self._chosen.values() for each in found.values()), *self._noted]

    def _module_parts(self, label: str, module: Module) -> Iterator[tuple[str, str]]:
        closely = self._closely(module.path)
        chosen = self._chosen.get(module.path, {})
        texts: dict[str, list[str]] = {}
        order = []
        for statement in module.statements:
            if id(statement) not in chosen:
                continue
            name = ", ".join(statement.bound) if self._plain.is_plain(statement, module) else "(top level)"
            texts.setdefault(name, []).append(statement.digest(closely))
            if not statement.is_definition or name == "(top level)":
                order.append(statement.digest(closely))
        for name, digests in texts.items():
            yield f"{label} {name}" if name == "(top level)" else f"{label}:{name}", _digest(digests)
        for (path, name), sources in self._imports.items():
            if path == module.path:
                yield f"{label}:import {name}", _digest(sorted(sources))
        for path, name in sorted(self._there):
            if path == module.path:
                yield f"{label}:try import {name}", "is there"
        if module.path in self._own_docs:
            yield f"{label} (docstring)", _digest([module.doc or ""])
        if len(order) > 1:
            yield f"{label} (order)", _digest(order)

    def _closely(self, path: Path) -> int:
        return TEXT if self._all_text or path in self._text else DOCS if self._docs else SYNTAX

    # -- modules -------------------------------------------------------------------------------------------------

    def _module(self, path: Path) -> Module | None:
        if path not in self._modules:
            self._modules[path] = parse(path)
        return self._modules[path]

    def _execute(self, found: Found) -> Module | None:
        """Note that an import runs these files. Returns the module itself."""
        last = None
        for path in found.executed:
            last = self._execute_file(path)
        return last if found.file is not None and found.executed[-1] == found.file else None

    def _execute_file(self, path: Path) -> Module | None:
        module = self._module(path)
        if path in self.files:
            return module
        self.files.add(path)
        if module is not None:
            self._loading.append(module)
        return module

    def _load(self, module: Module) -> None:
        """Note what a module does when it is imported."""
        for each in module.imports:
            for found in self._targets(each, module.path):
                self._execute(found)
        for statement in module.statements:
            if not self._plain.is_plain(statement, module):
                self._choose(module, statement)
        if self._subclasses:
            self._take_classes(module)

    def _targets(self, each: Import, path: Path) -> list[Found]:
        """The modules that an import loads; of ``from a import b`` also `a.b`, if that is one."""
        dotted = each.module
        found = self._find(dotted, each.level, path)
        if each.attribute not in (None, "*"):
            deeper = self._find((*dotted, str(each.attribute)), each.level, path)
            found += [one for one in deeper if not one.rest]
        if not found and not each.level and dotted:
            self.packages.add(dotted[0])
        return found

    def _find(self, dotted: Chain, level: int, path: Path) -> list[Found]:
        return self.finder.relative(level, dotted, path) if level else self.finder.find(dotted, path)

    # -- names ---------------------------------------------------------------------------------------------------

    def _want(self, module: Module, chain: Chain) -> None:
        """Take what binds the first name of `chain` in a module; the rest are attributes of it."""
        if self._known("want", module.path, chain):
            return
        name, rest = chain[0], chain[1:]
        bound = module.binders.get(name, [])
        if name == "__doc__":
            self._own_docs.add(module.path)
        for statement in bound:
            if not statement.is_import:
                self._choose(module, statement)
        for each in module.bound_imports.get(name, []):
            self._imports.setdefault((module.path, name), set()).add(str(each))
            self._import(module, each, rest)
        for star in module.stars:
            for found in self._find(star.module, star.level, module.path):
                owner = self._execute(found)
                if owner is not None and self._offers(owner, name, set()):
                    self._want(owner, chain)
        if not bound and module.is_package:
            deeper = self._sibling(module.path, name)
            if deeper is not None:
                self._follow(deeper, rest)
        if not bound and "__getattr__" in module.binders:
            self._take_whole(module)

    def _sibling(self, package: Path, name: str) -> Found | None:
        return next((f for f in self.finder.relative(1, (name,), package) if not f.rest), None)

    def _offers(self, module: Module, name: str, seen: set[Path]) -> bool:
        if name in module.binders or module.path in seen:
            return name in module.binders
        seen.add(module.path)
        for star in module.stars:
            for found in self._find(star.module, star.level, module.path):
                owner = self._execute(found)
                if owner is not None and self._offers(owner, name, seen):
                    return True
        return bool(_DYNAMIC & {word for each in module.statements for word in each.uses.words})

    def _import(self, module: Module, each: Import, rest: Chain) -> None:
        """Follow a name that an import has bound, with the attributes that are taken from it."""
        if each.attribute is not None:
            for found in self._find(each.module, each.level, module.path):
                self._follow(found, (each.attribute, *rest))
            return
        dotted = each.module if each.renamed else each.module[:1]
        for found in self._find(each.module, 0, module.path):
            self._execute(found)
        for found in self._find(dotted, 0, module.path):
            self._follow(found, rest)

    def _follow(self, found: Found, chain: Chain) -> None:
        """Take what a chain of attributes of a module reaches; the module as a whole where there are none."""
        module = self._execute(found)
        chain = (*found.rest, *chain)
        if self._known("follow", found.file or found.folder, chain):
            return
        if module is not None:
            if chain and chain[0] not in _SPACES:
                self._want(module, chain)
            else:
                self._take_whole(module)
        elif found.file is not None and found.file in self.files:
            return  # no Python: it counts as a whole
        deeper = self.finder.submodule(found, chain[0]) if chain else None
        if deeper is not None and not deeper.rest:
            self._follow(deeper, chain[1:])

    def _known(self, *key: object) -> bool:
        if key in self._seen:
            return True
        self._seen.add(key)
        return False

    # -- statements ----------------------------------------------------------------------------------------------

    def _choose(self, module: Module, statement: Statement) -> None:
        chosen = self._chosen.setdefault(module.path, {})
        if id(statement) not in chosen:
            chosen[id(statement)] = statement
            self._waiting.append((module, statement))

    def _take_whole(self, module: Module) -> None:
        if module.path not in self._whole:
            self._whole.add(module.path)
            for statement in module.statements:
                self._choose(module, statement)
                for name in statement.bound if statement.is_import else ():
                    self._want(module, (name,))
            for star in module.stars:
                for found in self._find(star.module, star.level, module.path):
                    self._follow(found, ())

    def _work(self) -> None:
        while self._loading or self._waiting:
            if self._loading:
                self._load(self._loading.popleft())
            else:
                self._look(*self._waiting.popleft())

    def _look(self, module: Module, statement: Statement) -> None:
        """Follow everything that a statement uses."""
        uses = statement.uses
        inner = {each.bound: each for each in uses.imports}
        itself = statement.bound if statement in self._configs.values() else ()
        for each in uses.imports:
            for found in self._targets(each, module.path):
                self._execute(found)
                if each.attribute == "*":
                    self._follow(found, ())
        for name, chains in uses.names.items():
            for chain in (chains or {()}) if name not in itself else ():
                if name in inner:
                    self._import(module, inner[name], chain)
                self._want(module, (name, *chain))
        dynamic = (_DYNAMIC - uses.apart) & uses.names.keys() or ("modules",) in uses.names.get("sys", ())
        if dynamic or _NAMES_OF & uses.words:
            self._take_whole(module)
        if _READS_TEXT & uses.words:
            self._text.add(module.path)
        self._all_text = self._all_text or bool(_READS_ALL_TEXT & uses.words)
        for each in statement.guarded:
            if self._targets(each, module.path):
                self._there.add((module.path, str(each)))
        self._docs = self._docs or bool(_READS_DOCS & uses.words)
        if "__subclasses__" in uses.words:
            self._take_subclasses()
        if _READS_HINTS & uses.words:
            self._take_hints()
        if self._hints:
            self._want_hints(module, statement)
        self._follow_strings(module, statement)

    def _take_subclasses(self) -> None:
        """Every class that was defined may be among them, wherever it stands."""
        self._subclasses = True
        for module in [self._modules[path] for path in self.files]:
            if module is not None:
                self._take_classes(module)

    def _take_classes(self, module: Module) -> None:
        for statement in module.statements:
            if isinstance(statement.node, ast.ClassDef):
                self._choose(module, statement)

    def _take_hints(self) -> None:
        """Annotations are evaluated, of functions too."""
        if not self._hints:
            self._hints = True
            chosen = [(self._modules[path], each) for path, found in self._chosen.items() for each in found.values()]
            for module, statement in chosen:
                if module is not None:
                    self._want_hints(module, statement)

    def _want_hints(self, module: Module, statement: Statement) -> None:
        for chain in statement.uses.hints:
            self._want(module, chain)

    def _follow_strings(self, module: Module, statement: Statement) -> None:
        """Modules that are named by a string: ``import_module("a.b")``, or the path of a file."""
        if (
            "import_module" in statement.uses.words
            or "__import__" in statement.uses.words
            or ("run_module" in statement.uses.words)
        ):
            for text in statement.uses.strings:
                level = len(text) - len(text.lstrip("."))
                dotted = tuple(text.lstrip(".").split("."))
                if all(part.isidentifier() for part in dotted):
                    for found in self._find(dotted, level, module.path):
                        if not found.rest:
                            self._follow(found, ())
        for path in self._named_files(statement.uses, module.path):
            if path.suffix == ".py" and path not in self.files:
                owner = self._execute_file(path)
                if owner is not None:
                    self._take_whole(owner)

    def _named_files(self, uses: Uses, path: Path) -> Iterator[Path]:
        for text in uses.strings:
            if len(text) > _LONGEST_NAME or "\n" in text or "\0" in text or not ("." in text or "/" in text):
                continue
            for folder in (self.root, path.parent):
                named = folder / text
                if named.is_relative_to(folder) and ".." not in named.parts and named.is_file():
                    yield named

    # -- config classes ------------------------------------------------------------------------------------------

    def _config(self, module: Module, chain: Chain) -> None:
        for owner, statement in self.definitions(module, chain):
            node = statement.node
            if not isinstance(node, ast.ClassDef):
                if owner is module:
                    self._choose(owner, statement)
                continue
            if (owner.path, node.name) in self._configs:
                continue
            kept, fields = _without_fields(node)
            mine = Statement(kept, owner.data.decode("utf-8", errors="replace"))
            self._configs[owner.path, node.name] = mine
            self._waiting.append((owner, mine))
            for used in (*fields, *filter(None, map(chain_of, node.bases))):
                self._config(owner, used)

    # -- for Plain -----------------------------------------------------------------------------------------------

    def full_name(self, module: Module, chain: Chain) -> str | None:
        """``numpy.array`` for what an import brought from elsewhere; None for what is the user's own, or unknown."""
        bound = module.bound_imports.get(chain[0], [])
        if not bound or any(not s.is_import for s in module.binders.get(chain[0], []) if not _guarded(s)):
            return None
        each = bound[-1]
        base = each.module if each.renamed or each.attribute is not None else each.module[:1]
        if each.level or self._find(base, 0, module.path):
            return None
        attribute = [each.attribute] if each.attribute is not None else []
        return ".".join((*base, *attribute, *chain[1:]))

    def definitions(self, module: Module, chain: Chain) -> list[tuple[Module, Statement]]:
        """The user's own functions, classes and assignments that a chain of names leads to."""
        return list(self._definitions(module, chain, set()))

    def _definitions(
        self, module: Module, chain: Chain, seen: set[tuple[Path, Chain]]
    ) -> Iterator[tuple[Module, Statement]]:
        if (module.path, chain) in seen:
            return
        seen.add((module.path, chain))
        for statement in module.binders.get(chain[0], []):
            if not statement.is_import and len(chain) == 1:
                yield module, statement
        for each in (*module.bound_imports.get(chain[0], []), *module.stars):
            if each.attribute == "*":
                inner: Chain = chain
            else:
                inner = (each.attribute, *chain[1:]) if each.attribute is not None else chain[1:]
            dotted = each.module if each.renamed or each.attribute is not None else each.module[:1]
            for found in self._find(dotted, each.level, module.path):
                yield from self._in_module(found, inner, seen)

    def _in_module(
        self, found: Found, chain: Chain, seen: set[tuple[Path, Chain]]
    ) -> Iterator[tuple[Module, Statement]]:
        chain = (*found.rest, *chain)
        module = self._module(found.file) if found.file is not None else None
        if module is not None and chain:
            yield from self._definitions(module, chain, seen)
        deeper = self.finder.submodule(found, chain[0]) if len(chain) > 1 else None
        if deeper is not None and not deeper.rest:
            yield from self._in_module(deeper, chain[1:], seen)


def _guarded(statement: Statement) -> bool:
    return isinstance(statement.node, ast.Try | ast.If)


def _without_fields(node: ast.ClassDef) -> tuple[ast.ClassDef, list[Chain]]:
    """A class without its annotated fields, and the names in their annotations."""
    kept = copy.deepcopy(node)
    names: list[Chain] = []
    body: list[ast.stmt] = []
    for each in kept.body:
        if isinstance(each, ast.AnnAssign) and "ClassVar" not in ast.unparse(each.annotation):
            names += names_in(each.annotation)
        else:
            body.append(each)
    kept.body = body or [ast.copy_location(ast.Pass(), node)]
    return kept, names


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
