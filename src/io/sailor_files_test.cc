#include "io/sailor_files.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

namespace shardwise {
namespace {

using ::testing::HasSubstr;

// Two stages of one layer, two replicas, four sequences in micro-batches of one.
constexpr const char* kRun =
    R"({"pipeline_list": [{"layers_per_stage": [[0], [1]], "dp": [2, 2], "tmp_per_stage": [
        [[[["X", 2, "z"]], 2], [[["X", 2, "z"]], 2]], [[[["X", 2, "z"]], 2], [[["X", 2, "z"]], 2]]]}],
        "mbs": 1, "gbs": 4, "real": 1.5, "max_mem": 100})";

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

std::string run_error(const std::string& from, const std::string& to) {
  try {
    sailor_run_from_json(parse_json(replaced(kRun, from, to), "run.json"));
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

template <typename Read>
std::string error_of(Read read) {
  try {
    read();
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

LayerProfile profile() {
  return sailor_layers_of(
      parse_json(R"({"M": {"X": {"1": {"2": {"0": [1, 2, 0.5], "1": [2, 4, 0.25]}}}}})",
                 "layers.json"),
      "M",
      "X");
}

constexpr const char* kSizes =
    R"({"2": {"0": {"params_bytes": 8e9, "act_output_bytes": 1e9, "act_mem_bytes": 3e9},
              "1": {"params_bytes": 4e9, "act_output_bytes": 5e9, "act_mem_bytes": 2e9}}})";
constexpr const char* kLinks = R"({"inter": {"X": {"2": [[0, 0, 4], 2e9]}}})";

SailorEvaluation price(const std::string& run, const std::string& sizes, const std::string& links) {
  return evaluate_sailor(sailor_run_from_json(parse_json(run, "run.json")),
                         "run.json",
                         profile(),
                         sailor_sizes_from_json(parse_json(sizes, "sizes.json")),
                         sailor_links_from_json(parse_json(links, "links.json"), "X"),
                         Bytes(7));
}

TEST(SailorFiles, StepAndMemoryFollowTheFormula) {
  // Two micro-batches a replica. p = 3, 6; two devices send 1e9 bytes each at 2e9 bytes/s together:
  // 1 s a message, o_1 = 2. Period max(3 + 2, 2 + 6) = 8. Reductions 2 1/2 8 = 8 and 4 s, updates
  // 0.5 and 0.25. Step 3 + 6 + 2 + 8 + 8.5.
  const SailorEvaluation evaluation = price(kRun, kSizes, kLinks);
  EXPECT_DOUBLE_EQ(evaluation.step.count, 27.5);
  // Stage 1: 5 8e9, two micro-batches of 3e9 in flight, 3e9 of gradients; the process.
  EXPECT_EQ(evaluation.memory.count, 49'000'000'007);
  EXPECT_EQ(evaluation.stages[1].memory.count, 24'000'000'007);
}

TEST(SailorFiles, BandwidthRisesToItsTop) {
  // 8 - (x - 2)^2 = -x^2 + 4 x + 4: top 8 GB/s at 4 MB and beyond; 4 below 1 MB.
  const SailorLink link{-1, 4, 4, BytesPerSecond(1e12)};
  EXPECT_DOUBLE_EQ(link.bandwidth(1).count, 4e9);
  EXPECT_DOUBLE_EQ(link.bandwidth(2e6).count, 7e9);
  EXPECT_DOUBLE_EQ(link.bandwidth(4e6).count, 8e9);
  EXPECT_DOUBLE_EQ(link.bandwidth(1e9).count, 8e9);
}

TEST(SailorFiles, RunsThatDoNotFitTogetherAreRefusedByKey) {
  EXPECT_THAT(run_error("[1]]", "[2]]"), HasSubstr("layers_per_stage[1][0]': expected layer 1"));
  EXPECT_THAT(run_error("[1]]", "[]]"), HasSubstr("expected at least one layer"));
  EXPECT_THAT(run_error("[2, 2]", "[2, 3]"), HasSubstr("expected 2 as in the first stage"));
  EXPECT_THAT(run_error("[2, 2]", "[2]"), HasSubstr("expected 2 stages"));
  EXPECT_THAT(run_error("\"gbs\": 4", "\"gbs\": 5"), HasSubstr("expected a multiple of 2"));
  EXPECT_THAT(run_error("[[\"X\", 2, \"z\"]], 2]]]", "[[\"Y\", 2, \"z\"]], 2]]]"),
              HasSubstr("expected X as in the replicas before"));
  EXPECT_THAT(run_error("[[\"X\", 2, \"z\"]], 2]]]", "[[\"X\", 2, \"z\"]], 1]]]"),
              HasSubstr("expected 2 as in the replicas before"));
  EXPECT_THAT(run_error("\"real\": 1.5", "\"real\": -1.5"), HasSubstr("key 'real'"));
}

TEST(SailorFiles, FilesOfAnotherModelAreRefused) {
  const std::string third = replaced(kSizes, "\"1\": {", "\"2\": {");
  EXPECT_THAT(error_of([&] { price(kRun, third, kLinks); }), HasSubstr("layer 1 is missing"));
  const std::string other = replaced(kSizes, "{\"2\"", "{\"4\"");
  EXPECT_THAT(error_of([&] { price(kRun, other, kLinks); }),
              HasSubstr("tensor degree 2 is not in the layer sizes"));
  EXPECT_THAT(error_of([&] { price(replaced(kRun, "\"mbs\": 1", "\"mbs\": 2"), kSizes, kLinks); }),
              HasSubstr("micro-batch 2 with tensor degree 2 is not in the layer profile"));
  EXPECT_THAT(error_of([&] { price(replaced(kRun, "[1]]", "[1, 2]]"), kSizes, kLinks); }),
              HasSubstr("its stages hold 3 layers, the profile 2, the sizes 2"));
}

TEST(SailorFiles, BandwidthsBelowZeroAreRefused) {
  const std::string negative = replaced(kLinks, "[0, 0, 4]", "[0, -1, 4]");
  EXPECT_THAT(error_of([&] { price(kRun, kSizes, negative); }), HasSubstr("is below 1 B/s"));
  const std::string none = replaced(kLinks, "\"2\":", "\"4\":");
  EXPECT_THAT(error_of([&] { price(kRun, kSizes, none); }), HasSubstr("no bandwidth of 2 devices"));
}

}  // namespace
}  // namespace shardwise
