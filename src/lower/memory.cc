#include "lower/memory.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

namespace shardwise {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

constexpr std::int64_t kFloatBytes = 4;

class MemoryWalk {
 public:
  explicit MemoryWalk(const Program& program)
      : program_(program),
        compute_bytes_(element_bytes(ElementType::kCompute, program.precision)),
        is_alive_(program.buffers.size(), false) {}

  ProgramMemory walk() {
    add_state();
    for (const Instruction& instruction : program_.instructions) {
      add(instruction);
    }
    memory_.peak_dynamic = peak_;
    return memory_;
  }

 private:
  void add_state() {
    for (const LocalParameter& parameter : program_.parameters) {
      const auto share = [&parameter](StateSharding from) {
        return parameter.state_sharding >= from ? parameter.chunk : parameter.elements;
      };
      memory_.weights += Bytes(share(StateSharding::kParameters) * compute_bytes_);
      memory_.gradients += Bytes(share(StateSharding::kGradients) * kFloatBytes);
      const std::int64_t numbers = program_.precision == Precision::kBFloat16 ? 3 : 2;
      memory_.optimizer += Bytes(parameter.has_optimizer_state()
                                     ? share(StateSharding::kOptimizer) * numbers * kFloatBytes
                                     : 0);
      for (const ParameterPlace& use : parameter.uses) {
        if (parameter.reduction_degree > 1 &&
            parameter.state_sharding >= StateSharding::kGradients) {
          whole_gradients_[{use.layer, use.op}] += Bytes(parameter.elements * kFloatBytes);
        }
      }
    }
  }

  void reach(Bytes extra) { peak_ = std::max(peak_, live_ + extra); }

  Bytes gathered(const Instruction& instruction) const {
    Bytes bytes{0};
    for (const int index : instruction.parameters) {
      bytes += Bytes(program_.parameters[at(index)].elements * compute_bytes_);
    }
    return bytes;
  }

  // The whole gradients of an op live from its first backward step on.
  void begin_gradients(const Instruction& instruction) {
    const std::pair<int, int> op{instruction.layer, instruction.op};
    const auto found = whole_gradients_.find(op);
    if (instruction.kind == InstructionKind::kCompute &&
        instruction.direction != Direction::kForward && found != whole_gradients_.end() &&
        begun_.insert(op).second) {
      live_ += found->second;
    }
  }

  void end_gradients(const Instruction& instruction) {
    const std::pair<int, int> op{instruction.layer, instruction.op};
    if (instruction.kind == InstructionKind::kReduceGradients && begun_.erase(op) > 0) {
      live_ -= whole_gradients_[op];
    }
  }

  void add(const Instruction& instruction) {
    begin_gradients(instruction);
    if (instruction.kind == InstructionKind::kGatherParameters) {
      live_ += gathered(instruction);
    }
    if (instruction.in_place >= 0) {
      end(instruction.in_place);
    }
    for (const BufferId id : instruction.writes) {
      if (id >= 0 && !is_alive_[at(id)] && program_.buffers[at(id)].role != BufferRole::kLoss) {
        is_alive_[at(id)] = true;
        live_ += program_.buffers[at(id)].bytes;
      }
    }
    reach(instruction.workspace);
    for (const BufferId id : instruction.frees) {
      end(id);
    }
    if (instruction.kind == InstructionKind::kReleaseParameters) {
      live_ -= gathered(instruction);
    }
    end_gradients(instruction);
  }

  void end(BufferId id) {
    if (is_alive_[at(id)]) {
      is_alive_[at(id)] = false;
      live_ -= program_.buffers[at(id)].bytes;
    }
  }

  const Program& program_;
  const std::int64_t compute_bytes_;
  std::vector<bool> is_alive_;
  std::map<std::pair<int, int>, Bytes> whole_gradients_;  // by (layer, op)
  std::set<std::pair<int, int>> begun_;
  ProgramMemory memory_;
  Bytes live_{0};
  Bytes peak_{0};
};

}  // namespace

ProgramMemory memory_of(const Program& program) { return MemoryWalk(program).walk(); }

}  // namespace shardwise
