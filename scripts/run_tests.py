#!/usr/bin/env python3
"""Runs the tests of one or more build folders and counts single test cases.

    scripts/run_tests.py [--only REGEX] BUILD:LABEL[,LABEL...] ...

Each test that ctest knows under one of the labels is run with its own environment and time limit:
those labelled `unit` side by side, beside them the others one at a time (they start processes and
mostly wait). A unit test that several folders have runs in the first of them: it is the same code
with the same options. The cases are those that GoogleTest
and unittest report; a program of any other kind is one case. The output of a failing test is shown.
The last line is `N passed, N failed`, before it the number of skipped cases if there are any; the exit
status is 1 if a case failed or none ran.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class Test:
    name: str
    build: str
    command: list
    labels: list
    environment: dict
    timeout_s: float
    folder: str


@dataclasses.dataclass(frozen=True)
class Outcome:
    test: Test
    passed: int
    failed: int
    skipped: int
    seconds: float
    output: str


def program(name):
    """A tool of .venv if it is there, else the one on the path."""
    local = ROOT / ".venv" / "bin" / name
    return str(local) if local.exists() else shutil.which(name)


def list_tests(build, labels, only):
    """The tests of a build folder that carry one of the labels and whose name matches `only`."""
    listing = subprocess.run(
        [program("ctest"), "--show-only=json-v1", "--test-dir", str(build)],
        check=True,
        capture_output=True,
        text=True,
    )
    tests = []
    for entry in json.loads(listing.stdout)["tests"]:
        properties = {item["name"]: item["value"] for item in entry.get("properties", [])}
        if not set(labels) & set(properties.get("LABELS", [])) or not re.search(only, entry["name"]):
            continue
        if "command" not in entry:
            sys.exit(f"{build}: test {entry['name']} is not built")
        environment = dict(item.split("=", 1) for item in properties.get("ENVIRONMENT", []))
        tests.append(
            Test(
                entry["name"],
                os.path.relpath(build, ROOT),
                entry["command"],
                properties.get("LABELS", []),
                environment,
                float(properties.get("TIMEOUT", 600)),
                properties.get("WORKING_DIRECTORY", str(build)),
            )
        )
    return tests


def count_cases(output, status):
    """(passed, failed, skipped) as the test program itself reports them."""
    if "[==========]" in output:  # GoogleTest
        passed = len(re.findall(r"^\[       OK \]", output, re.M))
        failed = len(re.findall(r"^\[  FAILED  \] .*\(\d+ ms\)$", output, re.M))
        skipped = len(re.findall(r"^\[  SKIPPED \] .*\(\d+ ms\)$", output, re.M))
    elif match := re.search(r"^Ran (\d+) tests? in ", output, re.M):  # unittest
        closing = output[match.end() :]
        number = lambda word: int((re.search(word + r"=(\d+)", closing) or [0, 0])[1])
        failed = number("failures") + number("errors") + number("unexpected successes")
        skipped = number("skipped")
        passed = max(0, int(match[1]) - failed - skipped)
    else:
        return {0: (1, 0, 0), 77: (0, 0, 1)}.get(status, (0, 1, 0))
    if failed == 0 and (status != 0 or passed + skipped == 0):
        failed = 1  # crashed, ran out of time, or tested nothing
    return passed, failed, skipped


def run(test):
    """Runs one test; a test out of time is ended with all its children."""
    start = time.monotonic()
    process = subprocess.Popen(
        test.command,
        cwd=test.folder,
        # mpirun gives its ranks a terminal, on which GoogleTest would colour its marks.
        env=os.environ | {"GTEST_COLOR": "no"} | test.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=test.timeout_s)
        status = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        output += f"\nended after {test.timeout_s:.0f} s\n"
        status = 1
    passed, failed, skipped = count_cases(output, status)
    if status < 0:
        output += f"\nended by signal {-status}\n"
    return Outcome(test, passed, failed, skipped, time.monotonic() - start, output)


def show(outcome):
    mark = "FAILED" if outcome.failed else "ok"
    skipped = f", {outcome.skipped} skipped" if outcome.skipped else ""
    print(
        f"{mark:6} {outcome.test.build}: {outcome.test.name}: {outcome.passed} passed,"
        f" {outcome.failed} failed{skipped} ({outcome.seconds:.1f} s)",
        flush=True,
    )
    if outcome.failed:
        lines = outcome.output.splitlines()
        hidden = max(0, len(lines) - 400)
        if hidden:
            print(f"    ... {hidden} lines left out")
        for line in lines[hidden:]:
            # A GoogleTest case that passed says nothing about the one that failed.
            if not re.match(r"\[( RUN      |       OK |-{10})\]", line):
                print("    " + line)
        sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="names of tests to run, as a regular expression")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("builds", nargs="+", metavar="BUILD:LABELS")
    arguments = parser.parse_args()

    tests = []
    for item in arguments.builds:
        build, _, labels = item.partition(":")
        known = {test.name for test in tests if "unit" in test.labels}
        for test in list_tests(ROOT / build, labels.split(","), arguments.only):
            if "unit" not in test.labels or test.name not in known:
                tests.append(test)

    # What has the largest limit takes longest: begun first, so that all end together.
    units = sorted((t for t in tests if "unit" in t.labels), key=lambda t: -t.timeout_s)
    others = [test for test in tests if "unit" not in test.labels]
    outcomes = []
    with (
        concurrent.futures.ThreadPoolExecutor(arguments.jobs) as side_by_side,
        concurrent.futures.ThreadPoolExecutor(1) as one_at_a_time,
    ):
        runs = [side_by_side.submit(run, test) for test in units]
        runs += [one_at_a_time.submit(run, test) for test in others]
        for future in concurrent.futures.as_completed(runs):
            outcomes.append(future.result())
            show(outcomes[-1])

    passed = sum(outcome.passed for outcome in outcomes)
    failed = sum(outcome.failed for outcome in outcomes)
    skipped = sum(outcome.skipped for outcome in outcomes)
    if skipped:
        print(f"{skipped} skipped, most for want of the data named in README")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
