#include "runtime/evaluation_program.h"

#include <map>
#include <tuple>
#include <vector>

namespace shardwise {
namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

class ForwardFilter {
 public:
  explicit ForwardFilter(const Program& program)
      : program_(program), is_read_(program.buffers.size(), false) {
    for (const Instruction& instruction : program.instructions) {
      if (is_forward_kernel(instruction)) {
        for (const BufferId id : instruction.reads) {
          is_read_[at(id)] = true;
        }
      }
    }
  }

  std::vector<Instruction> filter() {
    std::vector<Instruction> kept;
    for (std::size_t i = 0; i < program_.instructions.size(); ++i) {
      if (keeps(i)) {
        kept.push_back(program_.instructions[i]);
        kept.back().frees.clear();
      }
    }
    free_after_last_use(kept);
    return kept;
  }

 private:
  // Layer, op, micro-batch: what a gather belongs to.
  using OpRun = std::tuple<int, int, int>;

  static bool is_forward_kernel(const Instruction& instruction) {
    return instruction.kind == InstructionKind::kCompute &&
           instruction.direction == Direction::kForward && !instruction.again;
  }

  bool is_gradient(BufferId id) const {
    return program_.buffers[at(id)].role == BufferRole::kGradient;
  }

  bool keeps(std::size_t i) {
    const Instruction& instruction = program_.instructions[i];
    switch (instruction.kind) {
      case InstructionKind::kCompute:
        return is_forward_kernel(instruction);
      case InstructionKind::kLoad:
        return is_read_[at(instruction.writes[0])];
      case InstructionKind::kCollective:
        return !instruction.again && !is_gradient(instruction.reads[0]);
      case InstructionKind::kCopy:
      case InstructionKind::kPostSend:
      case InstructionKind::kPostReceive:
      case InstructionKind::kWait:
        return !is_gradient(program_.transfers[at(instruction.transfer)].buffer);
      case InstructionKind::kGatherParameters:
        return is_gathered_[run_of(instruction)] = serves_forward(i);
      case InstructionKind::kReleaseParameters:
        return is_gathered_[run_of(instruction)];
      case InstructionKind::kGradientNorm:
        return true;
      default:
        return false;
    }
  }

  static OpRun run_of(const Instruction& instruction) {
    return {instruction.layer, instruction.op, instruction.microbatch};
  }

  // Whether the gather's first kernel is one of forward.
  bool serves_forward(std::size_t gather) const {
    const OpRun run = run_of(program_.instructions[gather]);
    for (std::size_t i = gather + 1; i < program_.instructions.size(); ++i) {
      const Instruction& later = program_.instructions[i];
      if (later.kind == InstructionKind::kCompute && run_of(later) == run) {
        return is_forward_kernel(later);
      }
    }
    return false;
  }

  void free_after_last_use(std::vector<Instruction>& kept) const {
    std::vector<bool> is_used_later(program_.buffers.size(), false);
    const auto use = [&](Instruction& by, BufferId id) {
      if (id >= 0 && !is_used_later[at(id)]) {
        is_used_later[at(id)] = true;
        by.frees.push_back(id);
      }
    };
    for (auto i = kept.rbegin(); i != kept.rend(); ++i) {
      for (const BufferId id : i->reads) {
        use(*i, id);
      }
      for (const BufferId id : i->writes) {
        use(*i, id);
      }
      if (i->kind == InstructionKind::kWait) {
        use(*i, program_.transfers[at(i->transfer)].buffer);
      }
    }
  }

  const Program& program_;
  std::vector<bool> is_read_;  // by a forward kernel
  std::map<OpRun, bool> is_gathered_;
};

}  // namespace

Program forward_program(const Program& program) {
  Program forward = program;
  forward.instructions = ForwardFilter(program).filter();
  return forward;
}

}  // namespace shardwise
