"""The real binary on real ranks: training, resuming, failures."""

import json
import os
import pathlib
import random
import re
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


def rank_of(pid):
    variables = pathlib.Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return int(dict(v.split("=", 1) for v in variables if "=" in v)["OMPI_COMM_WORLD_RANK"])


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
        self.assertRegex(said, r"n_embd|hidden_size|shape")

    def test_checkpoints_of_another_run_are_not_replaced(self):
        plan, run = self.make_plan("dp=2 micro=2"), self.folder / "run"
        self.succeed("train", plan, "--data", self.text, "--steps", 2, "--checkpoint", run)
        said = self.refuse(2, "train", plan, "--data", self.text, "--steps", 1, "--checkpoint", run)
        self.assertIn("--resume", said)
        self.assertIn("step-2", said)
        self.assertIn("nothing to do", self.succeed("train", plan, "--data", self.text, "--steps", 1,
                                                    "--checkpoint", run, "--resume"))

    def test_flags_that_would_do_nothing(self):
        plan = self.make_plan("dp=1")
        for flags in (["--checkpoint-every", 1], ["--evaluation-fraction", 0.1], ["--resume"],
                      ["--evaluation-data", self.text]):
            said = self.refuse(2, "train", plan, "--data", self.text, "--steps", 1, *flags)
            self.assertIn(flags[0], said)
            self.assertIn("needs --", said)

    def test_numbers_that_are_none(self):
        plan = self.make_plan("dp=1")
        for flag in ("--learning-rate", "--beta1", "--clip", "--timeout"):
            said = self.refuse(2, "train", plan, "--data", self.text, "--steps", 1, flag, "nan")
            self.assertIn(flag, said)

    def test_weights_that_are_none(self):
        plan = self.make_plan("dp=2 micro=2")
        weights = self.folder / "model.safetensors"
        weights.write_bytes(b"\x10\0\0\0\0\0\0\0{not json at all}")
        said = self.refuse(2, "train", plan, "--data", self.text, "--steps", 1, "--init", self.folder)
        self.assertIn("model.safetensors", said)
        said = self.refuse(2, "train", plan, "--data", self.text, "--steps", 1, "--init", "x" * 300)
        self.assertIn("File name too long", said)

    def test_token_files_that_are_none(self):
        plan = self.make_plan("dp=1")
        odd = self.folder / "odd.bin"
        odd.write_bytes(b"\0" * 1001)
        self.assertIn("odd.bin", self.refuse(2, "train", plan, "--data", odd, "--steps", 1))
        (self.folder / "megatron.bin").write_bytes(b"\0" * 1000)
        (self.folder / "megatron.idx").write_bytes(b"MMIDIDX\0\0" + b"\xff" * 40)
        said = self.refuse(2, "train", plan, "--data", self.folder / "megatron.bin", "--steps", 1)
        self.assertIn("megatron.idx", said)

    def test_outputs_that_cannot_be_written(self):
        plan = self.make_plan("dp=2 micro=2")
        for flag in ("--log", "--summary", "--checkpoint"):
            said = self.refuse(2, "train", plan, "--data", self.text, "--steps", 1, flag,
                               "/proc/nowhere/output")
            self.assertIn("/proc/nowhere", said)

    def test_computation_longer_than_the_limit(self):
        # One product of 8192 x 1024 by 1024 x 4096 takes a second on one core.
        model = self.write("wide.json", json.dumps(
            {**TINY_GPT2, "n_embd": 1024, "n_positions": 1024, "n_layer": 1}))
        self.text.write_text("to be or not to be " * 1000)
        plan = self.make_plan("dp=1 micro=8", model=model, sequence=1024)
        said = self.refuse(4, "train", plan, "--data", self.text, "--steps", 1, "--timeout", 0.2)
        self.assertRegex(said, r"rank 0: .*no progress for")

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
        return process, sorted(ranks_found, key=rank_of)

    def check_lost_rank(self, layout, world, lost, signal_number):
        process, ranks = self.start(layout, world)
        os.kill(ranks[lost], signal_number)
        begin = time.monotonic()
        _, said = process.communicate(timeout=30)
        self.assertNotEqual(process.returncode, 0)
        others = {int(rank) for rank in re.findall(rf"rank (\d+): .*\brank {lost}\b", said)}
        # A stopped rank is woken to be ended, and may then say that the others are gone.
        self.assertEqual(others - {lost}, set(range(world)) - {lost}, said)
        # A rank that has ended but is not yet reaped has no command line any more.
        while left := [pid for pid in ranks if any(command_line(pid))]:
            self.assertLess(time.monotonic() - begin, 10, f"left behind: {left}")
            time.sleep(0.1)
        self.assertLess(time.monotonic() - begin, 10)

    def test_killed_rank_ends_the_others(self):
        self.check_lost_rank("tp=2 micro=2", 2, 1, signal.SIGKILL)

    def test_killed_first_rank_ends_the_others(self):
        self.check_lost_rank("pp=3 micro=2", 3, 0, signal.SIGKILL)

    def test_stopped_rank_ends_the_others(self):
        self.check_lost_rank("pp=2 micro=2", 2, 1, signal.SIGSTOP)

    def test_stopped_first_rank_ends_the_others(self):
        self.check_lost_rank("dp=4 micro=2", 4, 0, signal.SIGSTOP)


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
        plan, run = self.make_plan("dp=2 zero=1 micro=2"), self.folder / "run"
        self.succeed(*self.arguments(plan, run, 2))
        said = self.refuse(4, *self.arguments(plan, run, 3),
                           environment={"SHARDWISE_FAULT_AT": "4:full"})
        self.assertIn("No space left on device", said)
        self.assertEqual(self.latest_step(run), 2)
        self.succeed(*self.arguments(plan, run, 3))
        self.assertEqual(self.latest_step(run), 3)

    def test_folder_that_is_a_file(self):
        run = self.write("run", "a file, not a folder")
        said = self.refuse(2, *self.arguments(self.make_plan("dp=2 micro=2"), run, 1))
        self.assertIn(str(run), said)


if __name__ == "__main__":
    unittest.main()
