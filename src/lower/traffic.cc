#include "lower/traffic.h"

namespace shardwise {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

class Counter {
 public:
  explicit Counter(const Program& program) : program_(program) {}

  ProgramTraffic count() {
    for (const Instruction& instruction : program_.instructions) {
      add(instruction);
    }
    return traffic_;
  }

 private:
  std::int64_t& total(CollectiveKind kind) {
    return traffic_.by_collective[static_cast<std::size_t>(kind)];
  }

  std::int64_t compute_bytes() const {
    return element_bytes(ElementType::kCompute, program_.precision);
  }

  // Elements of the op's parameters, each padded to a whole number of shares.
  std::int64_t padded_elements(const std::vector<int>& parameters) const {
    std::int64_t elements = 0;
    for (const int index : parameters) {
      const LocalParameter& parameter = program_.parameters[at(index)];
      elements += parameter.reduction_degree * parameter.chunk;
    }
    return elements;
  }

  void add_reduction(const std::vector<int>& parameters) {
    for (const int index : parameters) {
      const std::int64_t bytes = 4 * padded_elements({index});  // fp32
      if (program_.parameters[at(index)].state_sharding == StateSharding::kNone) {
        total(CollectiveKind::kAllReduce) += 2 * bytes;
      } else {
        total(CollectiveKind::kReduceScatter) += bytes;
      }
    }
  }

  void add_internal(int internal) {
    if (internal < 0) {
      return;
    }
    for (const InternalCollective& inside : program_.internal[at(internal)]) {
      total(inside.kind) += inside.payload.count;
      traffic_.routed += inside.routed ? inside.payload.count : 0;
    }
  }

  void add_tied(const std::vector<TiedMessage>& messages) {
    for (const TiedMessage& message : messages) {
      if (message.sends && message.peer != program_.rank) {
        traffic_.sends += message.bytes.count;
      }
    }
  }

  void add(const Instruction& instruction) {
    switch (instruction.kind) {
      case InstructionKind::kCollective: {
        const CollectiveStep& step = instruction.collective;
        if (step.kind != CollectiveKind::kSlice) {
          const Buffer& buffer = program_.buffers[at(instruction.reads[0])];
          const std::int64_t element = element_bytes(buffer.type, program_.precision);
          total(step.kind) += collective_payload(step, program_.mesh, element).count;
        }
        return;
      }
      case InstructionKind::kCompute:
        add_internal(instruction.internal);
        return;
      case InstructionKind::kPostSend:
        traffic_.sends += program_.transfers[at(instruction.transfer)].bytes.count;
        return;
      case InstructionKind::kGatherParameters:
      case InstructionKind::kGatherUpdated:
        total(CollectiveKind::kAllGather) +=
            compute_bytes() * padded_elements(instruction.parameters);
        return;
      case InstructionKind::kReduceGradients:
        add_reduction(instruction.parameters);
        return;
      case InstructionKind::kTiedGradient:
        add_tied(program_.tied[at(instruction.tied)].gradient_messages);
        return;
      case InstructionKind::kTiedParameter:
        add_tied(program_.tied[at(instruction.tied)].parameter_messages);
        return;
      default:
        return;
    }
  }

  const Program& program_;
  ProgramTraffic traffic_;
};

}  // namespace

ProgramTraffic traffic_of(const Program& program) { return Counter(program).count(); }

}  // namespace shardwise
