#!/usr/bin/env python3
"""Configures the presets named, quietly unless that fails: build folders in build/."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    for preset in sys.argv[1:]:
        result = subprocess.run(
            [ROOT / ".venv" / "bin" / "cmake", "--preset", preset],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if result.returncode != 0:
            print(result.stdout)
            return result.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
