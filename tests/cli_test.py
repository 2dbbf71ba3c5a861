"""Commands of the binary: what they print, their exit codes, and errors that teach."""

import json
import pathlib
import unittest

from shardwise_process import HAS_RUNTIME, TINY_GPT2, TINY_VIT, ShardwiseCase


class Help(ShardwiseCase):
    def test_every_command_has_help_with_an_example(self):
        commands = ["plan", "evaluate", "check", "simulate", "score", "report"]
        for command in commands + (["profile", "train"] if HAS_RUNTIME else []):
            self.assertRegex(self.succeed(command, "--help"), rf"Examples?: +shardwise {command} ")

    def test_unknown_command_is_bad_input(self):
        self.refuse(2, "plann")


class Evaluate(ShardwiseCase):
    def test_plan_file_round_trip_gives_the_same_account(self):
        plan = self.make_plan("tp=2 dp=2")
        again = self.folder / "again.json"
        self.succeed("evaluate", plan, "-o", again)
        self.assertEqual(plan.read_bytes(), again.read_bytes())

    def test_json_has_stable_keys(self):
        plan = self.make_plan("pp=2 dp=2")
        account = json.loads(self.succeed("evaluate", plan, "--json"))
        for key in ("step_time_s", "tokens_per_s", "fits", "times", "memory", "traffic"):
            self.assertIn(key, account)
        self.assertEqual(len(account["memory"]), 2)

    def test_evaluate_prices_a_run_from_layer_profiles(self):
        replica = [[["X", 1, "z"]], 1]
        files = {
            "run": {"pipeline_list": [{"layers_per_stage": [[0], [1]], "dp": [1, 1],
                                       "tmp_per_stage": [[replica], [replica]]}],
                    "mbs": 1, "gbs": 1, "real": 4},
            "layers": {"1": {"1": {"0": [1, 2, 0], "1": [1, 0.5, 0.5]}}},
            "sizes": {"M": {"1": {str(layer): {"params_bytes": 1, "act_output_bytes": 1e9, "act_mem_bytes": 1}
                                  for layer in (0, 1)}}},
            "links": {"inter": {"X": {"1": [[0, 0, 4], 9e9]}}}}
        for name, content in files.items():
            (self.folder / f"{name}.json").write_text(json.dumps(content))
        run, layers, sizes, links = (self.folder / f"{name}.json" for name in files)
        flags = ["--layer-profile", layers, "--layer-sizes", sizes, "--bandwidths", links, "--profiled-model", "M"]
        account = json.loads(self.succeed("evaluate", run, *flags, "--json"))
        # Kernels 3 + 1.5, two messages of 0.25, update 0.5.
        self.assertAlmostEqual(account["step_time_s"], 5.5)
        self.assertEqual(account["measured_step_time_s"], 4)
        self.assertIn("+37.5 %", self.succeed("evaluate", run, *flags))
        self.assertIn("--layer-sizes", self.refuse(2, "evaluate", run, *flags[:2]))
        self.assertIn("no CLUSTER", self.refuse(2, "evaluate", run, "local:1", *flags))

    def test_check_accepts_what_evaluate_wrote(self):
        self.assertIn("sound", self.succeed("check", self.make_plan("tp=2 dp=2")))

    def test_check_finds_a_changed_claim(self):
        plan = self.make_plan("tp=2 dp=2")
        document = json.loads(plan.read_text())
        document["prediction"]["step_time_ps"] += 1
        plan.write_text(json.dumps(document))
        self.assertIn("the plan says", self.refuse(1, "check", plan))


class Plan(ShardwiseCase):
    def test_plan_is_proved_and_checks(self):
        path = self.folder / "best.json"
        answer = json.loads(
            self.succeed("plan", self.model, "local:4", "--batch", 8, "--sequence", 32, "-o", path,
                         "--json")
        )
        self.assertEqual(answer["stop_reason"], "optimal")
        self.assertLessEqual(answer["lower_bound_s"], answer["step_time_s"])
        self.succeed("check", path)

    def test_limit_that_ends_the_search_is_named(self):
        said = self.refuse(3, "plan", self.model, "local:4", "--batch", 8, "--sequence", 32, "--time-limit", 1e-6)
        self.assertIn("--time-limit", said)

    def test_precision_is_what_the_devices_are_made_for(self):
        for cluster, flags, expected in (("dgx-h100:1", (), "bf16"), ("local:2", (), "fp32"),
                                         ("dgx-h100:1", ("--precision", "fp32"), "fp32")):
            path = self.folder / "layout.json"
            self.succeed("evaluate", self.model, cluster, "--layout", "dp=2", "--batch", 8, "--sequence", 32,
                         *flags, "-o", path)
            self.assertEqual(json.loads(path.read_text())["plan"]["precision"], expected)

    def test_plan_is_printed_with_its_replay_as_error_band(self):
        path = self.folder / "best.json"
        shape = ["plan", self.model, "local:4", "--batch", 8, "--sequence", 32]
        self.assertRegex(self.succeed(*shape), r"the schedule replayed: .* off [+-][0-9.]+ %")
        answer = json.loads(self.succeed(*shape, "-o", path, "--json"))
        replayed = json.loads(self.succeed("simulate", path, "--json"))
        self.assertEqual(answer["replay"]["step_time_s"], replayed["step_time_s"])
        off = answer["step_time_s"] / replayed["step_time_s"] - 1
        self.assertAlmostEqual(answer["replay"]["formula_off"], off)
        self.assertLessEqual(answer["replay"]["formula_off_least"], answer["replay"]["formula_off_most"])

    def test_no_uniform_grid_is_faster(self):
        shape = ["--batch", 8, "--sequence", 32, "--json"]
        best = json.loads(self.succeed("plan", self.model, "local:4", *shape))
        grid = json.loads(self.succeed("plan", self.model, "local:4", *shape, "--method", "megatron"))
        self.assertLessEqual(best["step_time_s"], grid["step_time_s"])

    def test_plan_does_not_depend_on_threads(self):
        plans = []
        for threads in (1, 2):
            path = self.folder / f"{threads}.json"
            self.succeed("plan", self.model, "local:4", "--batch", 8, "--sequence", 32, "--threads",
                         threads, "-o", path)
            plans.append(path.read_bytes())
        self.assertEqual(*plans)

    def test_infeasible_says_device_bytes_and_change(self):
        cluster = self.write(
            "small.yaml",
            "name: small\n"
            "device: {type: tiny, memory: 300 kB, fp32: 1 TFLOP/s, bf16: 1 TFLOP/s,"
            " memory_bandwidth: 10 GB/s}\n"
            "levels: [{name: bus, size: 2, bandwidth: 1 GB/s, latency: 10 us}]\n",
        )
        said = self.refuse(1, "plan", self.model, cluster, "--batch", 8, "--sequence", 32)
        for word in ("no plan fits", "device", "weights", "would fit"):
            self.assertIn(word, said)


class Simulate(ShardwiseCase):
    def test_json_and_trace_agree_with_the_plan(self):
        plan = self.make_plan("pp=2 dp=2")
        trace = self.folder / "trace.json"
        answer = json.loads(self.succeed("simulate", plan, "--json", "--trace", trace))
        account = json.loads(self.succeed("evaluate", plan, "--json"))
        self.assertEqual(answer["formula_step_time_s"], account["step_time_s"])
        self.assertEqual(sum(rank["alike"] for rank in answer["ranks"]), 4)
        events = json.loads(trace.read_text())["traceEvents"]
        busy = {}
        names = {}
        for event in events:
            if event["name"] == "thread_name":
                names[event["pid"], event["tid"]] = event["args"]["name"]
            if event["ph"] == "X":
                key = event["pid"], event["tid"]
                busy[key] = busy.get(key, 0) + event["dur"]
        for rank in answer["ranks"]:
            for (pid, tid), name in names.items():
                if name.startswith(f"rank {rank['rank']} ") and name.endswith(": compute"):
                    self.assertAlmostEqual(busy[pid, tid] * 1e-6, rank["compute_s"], places=9)

    def test_a_schedule_without_a_formula_is_simulated_and_refused_elsewhere(self):
        plan = self.make_plan("pp=2 dp=2 micro=1")
        document = json.loads(plan.read_text())
        document["plan"]["schedule"] = "zb-h1"
        plan.write_text(json.dumps(document))
        self.assertIn("per step", self.succeed("simulate", plan))
        self.assertIn("zb-h1", self.refuse(2, "evaluate", plan))

    def test_options_out_of_range(self):
        plan = self.make_plan("dp=2")
        self.assertIn("RANK:FACTOR", self.refuse(2, "simulate", plan, "--straggler", "1"))
        self.assertIn("jitter", self.refuse(2, "simulate", plan, "--jitter", "2"))
        self.assertIn("micro-batch", self.refuse(2, "simulate", plan, "--microbatch-factors", "1,2,3"))

    def test_longer_microbatches_take_longer(self):
        plan = self.make_plan("pp=2 micro=1")
        count = json.loads(plan.read_text())["plan"]["num_microbatches"]
        alike = json.loads(self.succeed("simulate", plan, "--json"))["makespan_s"]
        longer = json.loads(
            self.succeed("simulate", plan, "--json", "--microbatch-factors", ",".join(["2"] * count))
        )["makespan_s"]
        self.assertGreater(longer, 1.5 * alike)

    def test_refined_plan_is_simulated_as_promised(self):
        path = self.folder / "refined.json"
        answer = json.loads(
            self.succeed("plan", self.model, "local:4", "--batch", 8, "--sequence", 32, "--refine", 3,
                         "-o", path, "--json")
        )
        times = [entry["step_time_s"] for entry in answer["refined"] if entry["fits"]]
        self.assertEqual(times, sorted(times))
        replayed = json.loads(self.succeed("simulate", path, "--json"))
        self.assertEqual(replayed["step_time_s"], times[0])


class Report(ShardwiseCase):
    def test_page_holds_the_numbers_and_needs_no_network(self):
        plan = self.make_plan("pp=2 dp=2")
        page = self.folder / "report.html"
        self.succeed("report", plan, "-o", page)
        text = page.read_text()
        said = self.succeed("simulate", plan).splitlines()[0]
        self.assertIn(said.split(" per step")[0], text)
        self.assertNotIn("http", text)
        self.assertNotIn("<script", text)

    def test_two_plans_are_compared(self):
        page = self.folder / "report.html"
        first = self.make_plan("pp=2 dp=2")
        second = self.folder / "second.json"
        second.write_bytes(first.read_bytes())
        self.succeed("report", first, second, "-o", page)
        self.assertIn("plans compared", page.read_text())


class BadInput(ShardwiseCase):
    SHAPE = ("--batch", 8, "--sequence", 32)

    def test_missing_model(self):
        self.assertIn("nowhere", self.refuse(2, "plan", "nowhere/config.json", "local:2", *self.SHAPE))

    def test_malformed_model_names_the_line(self):
        model = self.write("bad.json", '{\n"model_type": "gpt2",\n"n_embd": }\n')
        self.assertIn("bad.json:3", self.refuse(2, "plan", model, "local:2", *self.SHAPE))

    def test_missing_structural_key_is_named(self):
        config = {k: v for k, v in TINY_GPT2.items() if k != "n_embd"}
        model = self.write("bad.json", json.dumps(config))
        self.assertIn("n_embd", self.refuse(2, "plan", model, "local:2", *self.SHAPE))

    def test_unknown_model_type_is_named(self):
        model = self.write("bad.json", json.dumps({**TINY_GPT2, "model_type": "gtp2"}))
        self.assertIn("gtp2", self.refuse(2, "plan", model, "local:2", *self.SHAPE))

    def test_unknown_preset_suggests_the_nearest(self):
        said = self.refuse(2, "plan", self.model, "dgx-h10:1", *self.SHAPE)
        self.assertIn("dgx-h100", said)

    def test_score_names_file_line_and_column(self):
        fuzz = pathlib.Path(__file__).parent / "fuzz" / "published"
        said = self.refuse(2, "score", fuzz / "bad.csv")
        self.assertIn("bad.csv:2: column 'iter_time_s'", said)

    def test_cluster_file_quantity_without_unit(self):
        cluster = self.write(
            "c.yaml",
            "name: c\n"
            "device: {type: t, memory: 80, fp32: 1 TFLOP/s, bf16: 1 TFLOP/s,"
            " memory_bandwidth: 1 GB/s}\n"
            "levels: [{name: l, size: 2, bandwidth: 1 GB/s, latency: 1 us}]\n",
        )
        said = self.refuse(2, "plan", self.model, cluster, *self.SHAPE)
        self.assertIn("c.yaml:2", said)
        self.assertIn("memory", said)

    def test_cluster_file_that_is_no_yaml(self):
        cluster = self.write("c.yaml", "name: [unclosed\n")
        self.assertIn("c.yaml", self.refuse(2, "plan", self.model, cluster, *self.SHAPE))

    def test_missing_files_are_named(self):
        self.assertIn("none.json", self.refuse(2, "evaluate", self.folder / "none.json"))
        self.assertIn("none.json", self.refuse(2, "check", self.folder / "none.json"))
        self.assertIn("none.yaml",
                      self.refuse(2, "plan", self.model, self.folder / "none.yaml", *self.SHAPE))

    def test_cluster_file_with_the_wrong_unit(self):
        cluster = self.write(
            "c.yaml",
            "name: c\n"
            "device: {type: t, memory: 80 GB/s, fp32: 1 TFLOP/s, bf16: 1 TFLOP/s,"
            " memory_bandwidth: 1 GB/s}\n"
            "levels: [{name: l, size: 2, bandwidth: 1 GB/s, latency: 1 us}]\n",
        )
        said = self.refuse(2, "plan", self.model, cluster, *self.SHAPE)
        self.assertIn("c.yaml:2", said)
        self.assertIn("80 GB/s", said)

    def test_batch_beyond_all_sizes(self):
        said = self.refuse(2, "evaluate", self.model, "local:2", "--batch", 2**32 + 8, "--sequence", 32,
                           "--layout", "dp=2 micro=1")
        self.assertIn("--batch", said)

    def test_output_into_a_pipe(self):
        text = self.succeed("evaluate", self.model, "local:2", "--batch", 8, "--sequence", 32,
                            "--layout", "dp=2", "-o", "/dev/stdout")
        self.assertIn("shardwise-plan", text)

    def test_missing_and_malformed_profile(self):
        self.assertIn("p.json", self.refuse(2, "plan", self.model, self.folder / "p.json", *self.SHAPE))
        profile = self.write("p.json", '{"format": "shardwise-profile", "version": 1}')
        self.assertIn("p.json", self.refuse(2, "plan", self.model, profile, *self.SHAPE))

    @unittest.skipUnless(HAS_RUNTIME, "this build has no runtime")
    def test_profile_refuses_ops_that_nothing_runs(self):
        model = self.write("vit.json", json.dumps(TINY_VIT))
        said = self.refuse(2, "profile", model, "--ranks", 1, "--batch", 2, "--sequence", 5)
        self.assertIn("vit.json", said)
        self.assertIn("not measured yet", said)

    def test_malformed_plan(self):
        plan = self.write("plan.json", '{"format": "something else"}')
        self.assertIn("shardwise-plan", self.refuse(2, "evaluate", plan))

    def test_plan_with_an_unknown_axis_names_the_place(self):
        path = self.make_plan("tp=2")
        document = json.loads(path.read_text())
        layers = document["plan"]["stages"][0]["chunks"][0]["layers"]
        layers[1]["op_axes"][next(iter(layers[1]["op_axes"]))][1] = "q"
        path.write_text(json.dumps(document))
        self.assertIn("op_axes", self.refuse(2, "evaluate", path))

    def test_sequence_beyond_positions(self):
        said = self.refuse(2, "plan", self.model, "local:2", "--batch", 8, "--sequence", 64)
        self.assertRegex(said, r"\b32\b.*positions|positions.*\b32\b")

    def test_batch_that_does_not_divide(self):
        said = self.refuse(2, "evaluate", self.model, "local:4", "--batch", 6, "--sequence", 32,
                         "--layout", "dp=4")
        self.assertIn("6", said)

    def test_heads_that_do_not_divide(self):
        said = self.refuse(2, "evaluate", self.model, "local:3", "--batch", 6, "--sequence", 32,
                         "--layout", "tp=3")
        self.assertIn("3", said)

    def test_layout_key_that_nobody_knows(self):
        said = self.refuse(2, "evaluate", self.model, "local:2", "--batch", 8, "--sequence", 32,
                         "--layout", "tpp=2")
        self.assertIn("tpp", said)

    def test_layout_larger_than_the_cluster(self):
        said = self.refuse(2, "evaluate", self.model, "local:2", "--batch", 8, "--sequence", 32,
                         "--layout", "dp=4")
        self.assertIn("4", said)

    def test_output_in_a_folder_that_does_not_exist(self):
        said = self.refuse(2, "evaluate", self.model, "local:2", "--batch", 8, "--sequence", 32,
                         "--layout", "dp=2", "-o", self.folder / "none" / "plan.json")
        self.assertIn("none", said)


if __name__ == "__main__":
    unittest.main()
