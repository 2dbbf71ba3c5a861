#include "runtime/optimizer.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>

namespace shardwise {
namespace {

AdamWPiece piece_of(double value, double gradient, bool decays) {
  return {at::full({3}, value, at::kFloat),
          at::full({3}, gradient, at::kFloat),
          at::zeros({3}, at::kFloat),
          at::zeros({3}, at::kFloat),
          decays};
}

TEST(AdamW, FirstStepMovesByTheRate) {
  // Step 1: m / (1 - b1) = g and sqrt(v / (1 - b2)) = |g|, so x moves by the rate against g.
  const AdamWPiece piece = piece_of(1.0, -5.0, false);
  adamw_step({.epsilon = 0}, 1, 0.01, 1.0, {piece});
  EXPECT_NEAR(piece.values[0].item<float>(), 1.01, 1e-6);
}

TEST(AdamW, DecayIsDecoupledAndOnlyWhereAsked) {
  // No gradient: only decay moves x, by the factor 1 - rate * decay.
  const AdamWPiece weight = piece_of(2.0, 0.0, true);
  const AdamWPiece bias = piece_of(2.0, 0.0, false);
  adamw_step({.weight_decay = 0.5}, 1, 0.1, 1.0, {weight, bias});
  EXPECT_NEAR(weight.values[0].item<float>(), 1.9, 1e-6);
  EXPECT_EQ(bias.values[0].item<float>(), 2.0);
}

TEST(AdamW, TwoStepsByHand) {
  // b1 = 0.5, b2 = 0.75, rate 0.1, no decay. Gradients 1, then 3:
  //   m: 0.5, 1.75    v: 0.25, 0.75 * 0.25 + 0.25 * 9 = 2.4375
  //   step 1: 0.1 * (0.5 / 0.5) / sqrt(0.25 / 0.25) = 0.1
  //   step 2: 0.1 * (1.75 / 0.75) / sqrt(2.4375 / 0.4375) = 0.0988533...
  const AdamW options = {.beta1 = 0.5, .beta2 = 0.75, .epsilon = 0, .weight_decay = 0};
  const AdamWPiece piece = piece_of(1.0, 1.0, true);
  adamw_step(options, 1, 0.1, 1.0, {piece});
  piece.gradient.fill_(3.0);
  adamw_step(options, 2, 0.1, 1.0, {piece});
  const double second = 0.1 * (1.75 / 0.75) / std::sqrt(2.4375 / 0.4375);
  EXPECT_NEAR(piece.values[0].item<float>(), 1.0 - 0.1 - second, 1e-6);
}

TEST(AdamW, ScaledGradientIsWhatEnters) {
  const AdamWPiece halved = piece_of(1.0, 4.0, false);
  adamw_step({}, 1, 0.1, 0.5, {halved});
  const AdamWPiece plain = piece_of(1.0, 2.0, false);
  adamw_step({}, 1, 0.1, 1.0, {plain});
  EXPECT_NEAR(halved.second_moment[0].item<float>(), plain.second_moment[0].item<float>(), 1e-7);
}

TEST(ClippingFactor, ScalesDownOnly) {
  EXPECT_EQ(clipping_factor({.clip_norm = 1.0}, 0.5), 1.0);
  EXPECT_NEAR(clipping_factor({.clip_norm = 1.0}, 4.0), 0.25, 1e-6);
  EXPECT_EQ(clipping_factor({.clip_norm = 0.0}, 4.0), 1.0);
}

TEST(SumOfSquares, CountsEveryElementOnce) {
  // 0 + 1 + 4 + ... + 36^2 = 36 * 37 * 73 / 6; 37 elements: two rounds of 16 and a rest.
  EXPECT_EQ(sum_of_squares(at::arange(37, at::kFloat)), 36.0 * 37 * 73 / 6);
  EXPECT_EQ(sum_of_squares(at::zeros({0}, at::kFloat)), 0.0);
}

}  // namespace
}  // namespace shardwise
