"""The include direction of src/: who may see whom, and who may see torch and MPI.

The arrows are those of docs/architecture.md. An edge stands here once; what a module's friends see,
the module sees as well.
"""

import os
import pathlib
import re
import unittest

SOURCE = pathlib.Path(os.environ.get("SHARDWISE_SOURCE", pathlib.Path(__file__).parent.parent)) / "src"

# module: what it may include directly. Everything those may include follows.
ARROWS = {
    "core": [],
    "files": ["core"],
    "graph": ["core"],
    "models": ["graph", "files"],
    "cost": ["graph"],
    "planner": ["cost"],
    "lower": ["graph"],
    "simulate": ["lower", "cost"],
    "io": ["cost", "files"],
    "check": ["cost"],
    "advisor": ["planner", "simulate"],
    "report": ["advisor"],
    "runtime": ["lower", "files"],
    "profile": ["runtime", "lower", "cost"],
    "lab": ["graph", "files"],
    "cli": ["models", "io", "check", "report", "profile", "lab"],
}

# Headers of libtorch, MPI and NCCL, and the modules that may include them.
DEVICE_HEADERS = re.compile(r"^(ATen|torch|c10|caffe2)/|^mpi(-ext)?\.h$|^nccl\.h$|^cuda")
DEVICE_MODULES = {"runtime", "profile"}

# Modules that exist only with SHARDWISE_RUNTIME=ON: cli includes them inside `#if`.
RUNTIME_MODULES = {"runtime", "profile"}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^">]+)[">]')


def visible(module):
    """All modules that `module` may include, itself included."""
    seen = {module}
    waiting = [module]
    while waiting:
        for friend in ARROWS[waiting.pop()]:
            if friend not in seen:
                seen.add(friend)
                waiting.append(friend)
    return seen


def includes_of(path):
    """(line number, bracket, header, depth of #if around it) of each include of a file."""
    depth = 0
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if re.match(r"\s*#\s*if", line):
            depth += 1
        elif re.match(r"\s*#\s*endif", line):
            depth -= 1
        elif match := INCLUDE.match(line):
            yield number, match[1], match[2], depth


def sources():
    """(module, path) of every header and source."""
    for path in sorted(SOURCE.rglob("*")):
        if path.suffix in (".h", ".cc"):
            yield path.relative_to(SOURCE).parts[0], path


class IncludeDirection(unittest.TestCase):
    def test_every_folder_is_a_known_module(self):
        folders = {path.name for path in SOURCE.iterdir() if path.is_dir()}
        self.assertEqual(folders - ARROWS.keys(), set())

    def test_arrows_have_no_cycle(self):
        for module, friends in ARROWS.items():
            for friend in friends:
                self.assertNotIn(module, visible(friend), f"{module} -> {friend} -> {module}")

    def test_planner_and_simulate_never_see_each_other(self):
        self.assertNotIn("planner", visible("simulate"))
        self.assertNotIn("simulate", visible("planner"))

    def test_check_knows_nothing_of_the_planner(self):
        self.assertNotIn("planner", visible("check"))

    def test_no_include_against_the_arrows(self):
        wrong = []
        for module, path in sources():
            for line, bracket, header, _ in includes_of(path):
                target = header.split("/")[0]
                if bracket == '"' and target in ARROWS and target not in visible(module):
                    wrong.append(f"src/{path.relative_to(SOURCE)}:{line}: {module} includes {header}")
        self.assertEqual(wrong, [])

    def test_own_includes_start_at_src(self):
        wrong = []
        for _, path in sources():
            for line, bracket, header, _ in includes_of(path):
                if bracket == '"' and not (SOURCE / header).is_file():
                    wrong.append(f"src/{path.relative_to(SOURCE)}:{line}: {header}")
        self.assertEqual(wrong, [])

    def test_only_runtime_and_profile_see_torch_and_mpi(self):
        wrong = []
        for module, path in sources():
            if module in DEVICE_MODULES:
                continue
            for line, _, header, _ in includes_of(path):
                if DEVICE_HEADERS.search(header):
                    wrong.append(f"src/{path.relative_to(SOURCE)}:{line}: {header}")
        self.assertEqual(wrong, [])

    def test_cli_guards_the_modules_that_may_be_absent(self):
        wrong = []
        for module, path in sources():
            if module != "cli":
                continue
            # A file that needs the runtime as a whole says so in its name and is built only then.
            if path.stem.startswith("runtime_"):
                continue
            for line, _, header, depth in includes_of(path):
                if header.split("/")[0] in RUNTIME_MODULES and depth == 0:
                    wrong.append(f"src/{path.relative_to(SOURCE)}:{line}: {header} outside #if")
        self.assertEqual(wrong, [])


if __name__ == "__main__":
    unittest.main()
