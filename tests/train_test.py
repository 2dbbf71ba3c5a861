"""The real binary on real ranks: training, resuming, failures."""

import json
import os
import pathlib
import random
import signal
import subprocess
import time
import unittest

from shardwise_process import BINARY, HAS_RUNTIME, TINY_GPT2, ShardwiseCase


def children_of(pid):
    """All descendants of a process."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            child = int(path.parent.name)
            found += [child, *children_of(child)]
    return found


def command_line(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return []


@unittest.skipUnless(HAS_RUNTIME, "this build has no runtime")
class Training(ShardwiseCase):
    def train(self, plan, steps, *more):
        log = self.folder / f"{plan.stem}.jsonl"
        self.succeed("train", plan, "--data", self.text, "--steps", steps, "--log", log, *more)
        return [json.loads(line) for line in log.read_text().splitlines()]

    def test_loss_falls_and_plans_agree(self):
        losses = {}
        for name, layout in {
            "one": "dp=1 micro=8",
            "data": "dp=2 micro=2",
            "tensor": "tp=2 micro=4",
            "pipeline": "pp=2 micro=2",
            "zero": "dp=2 micro=2 zero=3",
        }.items():
            plan = self.make_plan(layout, f"{name}.json")
            losses[name] = [r["loss"] for r in self.train(plan, 10, "--learning-rate", "1e-2")]
        self.assertLess(losses["one"][-1], losses["one"][0] - 0.5)
        for name, values in losses.items():
            for ours, reference in zip(values, losses["one"]):
                self.assertAlmostEqual(ours, reference, delta=1e-5 * reference, msg=name)

    def test_resume_under_the_same_plan_is_bit_equal(self):
        plan = self.make_plan("dp=2 micro=2")
        whole = self.train(plan, 8)
        run = self.folder / "run"
        self.train(plan, 4, "--checkpoint", run)
        rest = self.train(plan, 8, "--checkpoint", run, "--resume")
        self.assertEqual([r["loss"] for r in rest[-4:]], [r["loss"] for r in whole[-4:]])

    def test_resume_under_another_plan_goes_on(self):
        whole = self.train(self.make_plan("dp=1 micro=8", "one.json"), 8)
        run = self.folder / "run"
        self.train(self.make_plan("dp=1 micro=8", "first.json"), 4, "--checkpoint", run)
        rest = self.train(self.make_plan("tp=2 micro=4", "second.json"), 8, "--checkpoint", run,
                          "--resume")
        for ours, reference in zip(rest[-4:], whole[-4:]):
            self.assertAlmostEqual(ours["loss"], reference["loss"], delta=1e-4 * reference["loss"])


@unittest.skipUnless(HAS_RUNTIME, "this build has no runtime")
class Failures(ShardwiseCase):
    def test_missing_data(self):
        plan = self.make_plan("dp=1")
        self.assertIn("none.txt", self.refuse(2, "train", plan, "--data", self.folder / "none.txt",
                                            "--steps", 1))

    def test_tokens_beyond_the_vocabulary(self):
        model = self.write("small.json", json.dumps({**TINY_GPT2, "vocab_size": 64}))
        plan = self.make_plan("dp=1", model=model)
        said = self.refuse(2, "train", plan, "--data", self.text, "--steps", 1)
        self.assertIn("from 0 to 63", said)

    def test_wrong_world_size(self):
        plan = self.make_plan("dp=2")
        said = self.refuse(2, "train", plan, "--data", self.text, "--steps", 1,
                         environment={"RANK": "0", "WORLD_SIZE": "3"})
        self.assertIn("3", said)

    def test_checkpoint_of_another_model(self):
        run = self.folder / "run"
        self.succeed("train", self.make_plan("dp=1"), "--data", self.text, "--steps", 1,
                     "--checkpoint", run)
        other = self.write("other.json", json.dumps({**TINY_GPT2, "n_embd": 64}))
        said = self.refuse(2, "train", self.make_plan("dp=1", "other_plan.json", model=other),
                         "--data", self.text, "--steps", 2, "--checkpoint", run, "--resume")
        self.assertIn("expected", said)

    def start(self, layout, ranks):
        """A long run of `ranks` ranks; returns (process, pids of the ranks) once it steps."""
        log = self.folder / "log.jsonl"
        plan = self.make_plan(layout)
        process = subprocess.Popen(
            [BINARY, "train", str(plan), "--data", str(self.text), "--steps", "1000000", "--log",
             str(log)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        self.addCleanup(process.kill)
        deadline = time.monotonic() + 60
        while not (log.exists() and log.read_text().count("\n") >= 2):
            self.assertLess(time.monotonic(), deadline, "the run does not begin")
            time.sleep(0.1)
        ranks_found = [
            pid for pid in children_of(process.pid)
            if command_line(pid)[:2] == [str(BINARY), "train"]
        ]
        self.assertEqual(len(ranks_found), ranks)
        return process, ranks_found

    def check_lost_rank(self, signal_number):
        process, ranks = self.start("pp=2 micro=2", 2)
        os.kill(ranks[1], signal_number)
        begin = time.monotonic()
        _, said = process.communicate(timeout=30)
        self.assertNotEqual(process.returncode, 0)
        self.assertRegex(said, r"rank 1")
        # A rank that has ended but is not yet reaped has no command line any more.
        while left := [pid for pid in ranks if any(command_line(pid))]:
            self.assertLess(time.monotonic() - begin, 10, f"left behind: {left}")
            time.sleep(0.1)
        self.assertLess(time.monotonic() - begin, 10)

    def test_killed_rank_ends_the_others(self):
        self.check_lost_rank(signal.SIGKILL)

    def test_stopped_rank_ends_the_others(self):
        self.check_lost_rank(signal.SIGSTOP)


@unittest.skipUnless(HAS_RUNTIME, "this build has no runtime")
class Checkpoints(ShardwiseCase):
    """Whatever happens while one is written, --resume finds one that is complete."""

    KILLS = int(os.environ.get("SHARDWISE_KILLS", "5"))  # random moments that are tried

    def arguments(self, plan, run, steps):
        return ["train", plan, "--data", self.text, "--steps", steps, "--checkpoint", run,
                "--checkpoint-every", 1, "--resume"]

    def latest_step(self, run):
        return int((run / "latest").read_text().strip().removeprefix("step-"))

    def test_killed_at_random_moments(self):
        seed = int(os.environ.get("SHARDWISE_SEED", "11"))
        draw = random.Random(seed)
        plan, run = self.make_plan("dp=2 zero=1 micro=2"), self.folder / "run"
        self.succeed(*self.arguments(plan, run, 1))
        for kill in range(self.KILLS):
            with self.subTest(seed=seed, kill=kill):
                before = self.latest_step(run)
                process = subprocess.Popen(
                    [BINARY, *map(str, self.arguments(plan, run, 1000000))],
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
                )
                self.addCleanup(process.kill)
                deadline = time.monotonic() + 60
                while self.latest_step(run) == before:
                    self.assertLess(time.monotonic(), deadline, "the run does not begin")
                    time.sleep(0.005)
                time.sleep(draw.uniform(0, 0.2))
                for pid in [*children_of(process.pid), process.pid]:
                    os.kill(pid, signal.SIGKILL)
                process.wait()
                left = self.latest_step(run)
                self.assertGreater(left, before)
                self.succeed(*self.arguments(plan, run, left + 1))
                self.assertEqual(self.latest_step(run), left + 1)

    def test_full_disk_leaves_the_older_one(self):
        plan, run = self.make_plan("dp=1"), self.folder / "run"
        self.succeed(*self.arguments(plan, run, 2))
        said = self.refuse(4, *self.arguments(plan, run, 3),
                           environment={"SHARDWISE_FAULT_AT": "4:full"})
        self.assertIn("No space left on device", said)
        self.assertEqual(self.latest_step(run), 2)
        self.succeed(*self.arguments(plan, run, 3))
        self.assertEqual(self.latest_step(run), 3)

    def test_folder_that_is_a_file(self):
        run = self.write("run", "a file, not a folder")
        said = self.refuse(2, *self.arguments(self.make_plan("dp=1"), run, 1))
        self.assertIn(str(run), said)


if __name__ == "__main__":
    unittest.main()
