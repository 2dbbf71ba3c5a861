// Brings (token, expert) pairs to the experts, wherever they live, and their results back.
//
// A pair is a token and one of the k experts it chose; a row is what travels for it. Experts are
// numbered row-major over the mesh axes that shard them. Along an axis assigned to "e" every rank
// has all tokens and keeps the pairs of its own experts. Along an exchange axis ("xb", "xs") tokens
// are spread too, and rows travel by all-to-all: first the counts of each expert as control
// messages, then the rows. Pairs are in order of expert, then of token: deterministic. Dropless.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "runtime/kernel.h"

namespace shardwise {

class ExpertDispatch {
 public:
  // `experts`: [tokens, k], chosen ids. Collective along the exchange axes.
  ExpertDispatch(const KernelContext& context, const at::Tensor& experts);

  // Index token * k + slot of each pair that starts here, and its token: [pairs].
  const at::Tensor& pairs() const { return pairs_; }
  const at::Tensor& tokens() const { return tokens_; }

  // Rows that arrive for each expert of this rank, in order of expert.
  const std::vector<std::int64_t>& rows_of_experts() const { return counts_; }
  std::int64_t rows() const;

  // [pairs, width] -> [rows, width], sorted by expert, and back. Collective.
  at::Tensor to_experts(at::Tensor rows) const;
  at::Tensor from_experts(at::Tensor rows) const;

 private:
  // The all-to-all along one mesh axis.
  struct Hop {
    CommunicationGroup* group = nullptr;
    std::vector<std::int64_t> sent;      // rows for each member
    std::vector<std::int64_t> received;  // rows from each member
    // Arrived rows lie by member, then expert. by_expert brings them to the order of experts,
    // by_member back; undefined if there is nothing to do.
    at::Tensor by_expert;
    at::Tensor by_member;
  };

  void select_pairs(const at::Tensor& experts, const std::vector<bool>& is_candidate);
  void add_hop(CommunicationGroup* group, int coordinate, const at::Device& device);

  std::vector<Hop> hops_;
  at::Tensor pairs_;
  at::Tensor tokens_;
  std::vector<std::int64_t> counts_;  // rows here for each expert that they may still go to
};

}  // namespace shardwise
