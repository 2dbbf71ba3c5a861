// The parameters of one rank: weights, gradients, optimizer state, and the collectives that share
// them out (ZeRO; Rajbhandari et al., SC'20).
//
// A local parameter of e elements is kept flat and padded to n * chunk, n = its reduction group,
// chunk = ceil(e / n); member i's share is elements [i * chunk, (i + 1) * chunk). With state
// sharding
//
//   none         whole weight, whole gradient, whole state (share = everything)
//   optimizer    whole weight, whole gradient; state of the share
//   gradients    whole weight; gradient (of the sum over micro-batches) and state of the share
//   parameters   weight, gradient and state of the share; the whole weight is gathered for a use
//
// Gradients are fp32; weights have the compute type; in bf16 the state holds fp32 master values,
// in fp32 the weights are the masters.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "graph/tied.h"
#include "lower/program.h"
#include "runtime/communicator.h"

namespace shardwise {

// One parameter of Program::parameters as this rank holds it. Undefined tensors: not held (now).
struct ParameterState {
  const LocalParameter* local = nullptr;
  // Its layer's state sharding, but none where it has no group to share with.
  StateSharding sharding = StateSharding::kNone;

  at::Tensor weight;       // local shape, compute type: what kernels read
  at::Tensor weight_flat;  // the same storage, [n * chunk]
  at::Tensor
      weight_share;   // [share], compute type: a part of weight_flat, or with `parameters` own
  at::Tensor master;  // [share], fp32: in fp32 the weight share itself

  at::Tensor gradient;        // local shape, fp32: what kernels add to
  at::Tensor gradient_flat;   // the same storage, [n * chunk]; padding is zero
  bool has_gradient = false;  // false: `gradient` holds nothing of this step yet, not even zeros
  at::Tensor gradient_share;  // [share], fp32: what the optimizer reads

  at::Tensor first_moment;   // [share], fp32; undefined without optimizer state
  at::Tensor second_moment;  // [share], fp32

  std::int64_t padded() const { return local->reduction_degree * local->chunk; }
  std::int64_t share_begin() const;
  std::int64_t share_size() const;  // padding included
};

class ParameterStore {
 public:
  // Allocates and fills with starting values (runtime/initial_values.h). `program` and `graph`
  // outlive it.
  ParameterStore(const Program& program, const Graph& graph, std::uint64_t seed);

  const std::vector<ParameterState>& states() const { return states_; }
  ParameterState& state(int parameter) { return states_[static_cast<std::size_t>(parameter)]; }

  // Before backward of an op with these parameters: makes room for whole gradients (`gradients` and
  // `parameters`). Returns whether the kernel must add; else it must overwrite them all.
  enum class GradientMode { kOverwrite, kAdd };
  GradientMode open_gradients(const std::vector<int>& parameters);

  // Parameters of one instruction that share one collective.
  struct Bucket {
    std::vector<int> parameters;
    int group = -1;  // index into Program::groups; -1: alone
    int members = 1;
    int index = 0;
    StateSharding sharding = StateSharding::kNone;
    std::int64_t share = 0;  // sum of chunks
  };
  std::vector<Bucket> buckets_of(const std::vector<int>& parameters) const;

  // Takes the bucket's gradients as they are now and returns the task that reduces them over
  // `group` (the communication thread's own): into gradient_share.
  std::function<void()> start_reduction(const Bucket& bucket, CommunicationGroup& group);

  // `parameters` sharding: the whole weights from the shares; and drops them.
  void gather_weights(const Bucket& bucket, CommunicationGroup& group);
  void release_weights(int parameter);
  // After the update, `optimizer` and `gradients`: the other members' updated shares.
  void gather_updated(const Bucket& bucket, CommunicationGroup& group);

  // After the optimizer has changed `master`: brings the weight share up to date.
  void store_update(int parameter);
  // Gradients are used up: the next step begins anew.
  void clear_gradients();
  // Copies the local part of the parameter, fp32, local shape, into weights and masters.
  void set_values(int parameter, const at::Tensor& values);

 private:
  void allocate(int parameter);
  void allocate_gradients(const Program& program);
  bool shares_gradients(int parameter) const;

  at::ScalarType compute_type_ = at::kFloat;
  std::vector<ParameterState> states_;
  // Storage of gradients that are reduced together, so that one collective takes them as they are.
  std::vector<at::Tensor> gradient_storage_;
};

}  // namespace shardwise
