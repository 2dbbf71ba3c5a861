#!/usr/bin/env python3
"""Runs clang-tidy 14 over own sources, two at a time, all findings as errors.

    scripts/lint.py BUILD [REGEX]

BUILD holds compile_commands.json. A source that was clean is not looked at again until it, an own
header that it includes, its compile command or .clang-tidy changes.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.M)

# Sizes in tests are small numbers worked out in a comment.
TEST_CHECKS = (
    "-bugprone-implicit-widening-of-multiplication-result,-performance-inefficient-vector-operation"
)


def own_headers(path, seen):
    """Adds to `seen` all own headers that a file includes, directly or not."""
    for name in INCLUDE.findall(path.read_text(encoding="utf-8")):
        header = ROOT / "src" / name
        if header.is_file() and header not in seen:
            seen.add(header)
            own_headers(header, seen)
    return seen


def without_g_plus_plus_options(command):
    """The command as clang understands it: without compiler cache, precompiled header, g++ warnings."""
    words = shlex.split(command)
    compiler = next(i for i, word in enumerate(words) if re.search(r"(\+\+|gcc|cc)$", word) and "ccache" not in word)
    kept = []
    skip = False
    for i, word in enumerate(words[compiler:]):
        if skip:
            skip = False
        elif word == "-include" and "cmake_pch" in words[compiler + i + 1]:
            skip = True
        elif not word.startswith(("-W", "-fsanitize", "-fno-sanitize")):
            kept.append(word)
    return shlex.join(kept)


def digest(entry):
    path = pathlib.Path(entry["file"])
    state = hashlib.sha256((entry["command"] + (ROOT / ".clang-tidy").read_text()).encode())
    for file in sorted({path} | own_headers(path, set())):
        state.update(file.read_bytes())
    return state.hexdigest()


def main():
    build = (ROOT / sys.argv[1]).resolve()
    pattern = sys.argv[2] if len(sys.argv) > 2 else ""
    work = build / "lint"
    (work / "clean").mkdir(parents=True, exist_ok=True)

    entries = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        relative = os.path.relpath(entry["file"], ROOT)
        if relative.endswith(".cc") and not relative.startswith(("..", "build")) and re.search(pattern, relative):
            command = without_g_plus_plus_options(entry["command"])
            entries.setdefault(entry["file"], entry | {"command": command})
    (work / "compile_commands.json").write_text(json.dumps(list(entries.values())))

    tidy = shutil.which("clang-tidy-14")
    if not tidy:
        sys.exit("lint: no clang-tidy-14; run scripts/setup.sh dev")

    def check(entry):
        stamp = work / "clean" / digest(entry)
        if stamp.exists():
            return entry, True, ""
        options = ["--checks=" + TEST_CHECKS] if re.search(r"_(test|testing)\.cc$", entry["file"]) else []
        result = subprocess.run(
            ["nice", tidy, "--quiet", *options, "-p", str(work), entry["file"]],
            capture_output=True,
            text=True,
        )
        if result.returncode == 0:
            stamp.touch()
        return entry, result.returncode == 0, result.stdout + result.stderr

    dirty = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for entry, is_clean, output in pool.map(check, entries.values()):
            if not is_clean:
                dirty += 1
                print(f"lint: {os.path.relpath(entry['file'], ROOT)}\n{output}", flush=True)
    print(f"lint: {len(entries)} sources, {dirty} with findings")
    return 1 if dirty else 0


if __name__ == "__main__":
    sys.exit(main())
