#!/usr/bin/env python3
"""Formats own C++ sources with clang-format 14, or checks that they are formatted.

    scripts/format.py [--check] [FILE...]      default: everything that git tracks
"""

import pathlib
import shutil
import subprocess
import sys

SKIPPED = 77  # as ctest and automake read it
ROOT = pathlib.Path(__file__).resolve().parent.parent


def tracked_sources():
    if not (ROOT / ".git").exists():
        found = [file for folder in ("src", "tests", "examples") for file in (ROOT / folder).rglob("*")]
        return [str(file.relative_to(ROOT)) for file in sorted(found) if file.suffix in (".h", ".cc")]
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--", "*.h", "*.cc"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [name for name in listing.stdout.split("\0") if name and (ROOT / name).exists()]


def main():
    arguments = sys.argv[1:]
    is_check = "--check" in arguments
    named = [argument for argument in arguments if argument != "--check"]
    # Files of other languages may be named beside ours: clang-format would take them for C++.
    files = [name for name in named if name.endswith((".h", ".cc"))] if named else tracked_sources()
    formatter = shutil.which("clang-format-14")
    if not formatter:
        # Other versions lay out differently: a check with them would mislead.
        print("format: skipped, there is no clang-format-14")
        return SKIPPED if is_check else 2
    if not files:
        return 0
    options = ["--dry-run", "--Werror", "-ferror-limit=1"] if is_check else ["-i"]
    status = subprocess.run([formatter, *options, *files], cwd=ROOT).returncode
    if is_check:
        print("format: run `make format`" if status else f"format: {len(files)} files are formatted")
    return status


if __name__ == "__main__":
    sys.exit(main())
