#include "simulate/live_bytes.h"

#include <algorithm>

namespace shardwise::internal {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

constexpr std::int64_t kFloatBytes = 4;

}  // namespace

LiveBytes::LiveBytes(const Program& program)
    : program_(program),
      compute_bytes_(element_bytes(ElementType::kCompute, program.precision)),
      is_alive_(program.buffers.size(), false) {
  const std::int64_t moments = program.precision == Precision::kBFloat16 ? 3 : 2;
  for (const LocalParameter& parameter : program.parameters) {
    const auto held = [&parameter](StateSharding shared_from) {
      return parameter.state_sharding >= shared_from ? parameter.chunk : parameter.elements;
    };
    state_ += Bytes(held(StateSharding::kParameters) * compute_bytes_ +
                    held(StateSharding::kGradients) * kFloatBytes);
    if (parameter.has_optimizer_state()) {
      state_ += Bytes(held(StateSharding::kOptimizer) * moments * kFloatBytes);
    }
    if (parameter.reduction_degree > 1 && parameter.state_sharding >= StateSharding::kGradients) {
      for (const ParameterPlace& use : parameter.uses) {
        shared_out_[{use.layer, use.op}] += Bytes(parameter.elements * kFloatBytes);
      }
    }
  }
}

Bytes LiveBytes::gathered(const Instruction& instruction) const {
  std::int64_t elements = 0;
  for (const int index : instruction.parameters) {
    elements += program_.parameters[at(index)].elements;
  }
  return Bytes(elements * compute_bytes_);
}

void LiveBytes::revive(BufferId id) {
  if (id >= 0 && !is_alive_[at(id)] && program_.buffers[at(id)].role != BufferRole::kLoss) {
    is_alive_[at(id)] = true;
    live_ += program_.buffers[at(id)].bytes;
  }
}

void LiveBytes::bury(BufferId id) {
  if (id >= 0 && is_alive_[at(id)]) {
    is_alive_[at(id)] = false;
    live_ -= program_.buffers[at(id)].bytes;
  }
}

void LiveBytes::begin(const Instruction& instruction) {
  if (instruction.kind == InstructionKind::kGatherParameters) {
    live_ += gathered(instruction);
  }
  if (instruction.kind == InstructionKind::kCompute &&
      instruction.direction != Direction::kForward) {
    const OpKey op{instruction.layer, instruction.op};
    const auto found = shared_out_.find(op);
    if (found != shared_out_.end() && whole_.insert(op).second) {
      live_ += found->second;
    }
  }
  bury(instruction.in_place);
  for (const BufferId id : instruction.writes) {
    revive(id);
  }
  peak_ = std::max(peak_, live_ + instruction.workspace);
}

void LiveBytes::end(const Instruction& instruction) {
  for (const BufferId id : instruction.frees) {
    bury(id);
  }
  if (instruction.kind == InstructionKind::kReleaseParameters) {
    live_ -= gathered(instruction);
  }
  if (instruction.kind == InstructionKind::kReduceGradients) {
    const OpKey op{instruction.layer, instruction.op};
    if (whole_.erase(op) > 0) {
      live_ -= shared_out_.at(op);
    }
  }
}

}  // namespace shardwise::internal
