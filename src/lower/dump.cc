#include "lower/dump.h"

#include <fmt/format.h>

#include <set>

#include "core/errors.h"

namespace shardwise {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

std::string name_of(InstructionKind kind) {
  constexpr const char* kNames[] = {"load",
                                    "compute",
                                    "collective",
                                    "accumulate",
                                    "copy",
                                    "post send",
                                    "post receive",
                                    "wait",
                                    "gather parameters",
                                    "release parameters",
                                    "reduce gradients",
                                    "wait for reductions",
                                    "tied gradient",
                                    "gradient norm",
                                    "update",
                                    "gather updated",
                                    "tied parameter"};
  return kNames[static_cast<int>(kind)];
}

std::string name_of(Direction direction) {
  constexpr const char* kNames[] = {"forward", "backward input", "backward weight", "backward"};
  return kNames[static_cast<int>(direction)];
}

std::string buffers(const std::vector<BufferId>& ids) {
  std::string text;
  for (const BufferId id : ids) {
    text += (text.empty() ? "" : " ") + (id < 0 ? std::string("-") : fmt::format("%{}", id));
  }
  return text;
}

std::string box_text(const Box& box) {
  std::string text;
  for (std::size_t d = 0; d < box.begin.size(); ++d) {
    text += fmt::format("{}{}:{}", d == 0 ? "" : ", ", box.begin[d], box.end[d]);
  }
  return "[" + text + "]";
}

std::string collective_text(const Instruction& instruction, const Program& program) {
  const CollectiveStep& step = instruction.collective;
  std::string text = to_string(step.kind);
  if (step.dim >= 0) {
    text += fmt::format(" dim {}", step.dim);
  }
  if (step.to_dim >= 0) {
    text += fmt::format(" to dim {}", step.to_dim);
  }
  if (instruction.group >= 0) {
    text += fmt::format(" over ranks {}", fmt::join(program.groups[at(instruction.group)], " "));
  }
  return text;
}

std::string transfer_text(const Instruction& instruction, const Program& program) {
  const Transfer& transfer = program.transfers[at(instruction.transfer)];
  return fmt::format("%{}{} {} rank {} (tag {}, {} B)",
                     transfer.buffer,
                     box_text(transfer.box),
                     transfer.sends ? "to" : "from",
                     transfer.peer,
                     transfer.tag,
                     transfer.bytes.count);
}

std::string what(const Instruction& instruction, const Program& program) {
  switch (instruction.kind) {
    case InstructionKind::kCompute:
      return (instruction.again ? "again " : "") + name_of(instruction.direction);
    case InstructionKind::kCollective:
      return (instruction.again ? "again " : "") + collective_text(instruction, program);
    case InstructionKind::kPostSend:
    case InstructionKind::kPostReceive:
    case InstructionKind::kWait:
    case InstructionKind::kCopy:
      return name_of(instruction.kind) + " " + transfer_text(instruction, program);
    default:
      return name_of(instruction.kind);
  }
}

std::string parameter_names(const std::vector<int>& indices, const Program& program) {
  std::string text;
  for (const int index : indices) {
    text += " " + program.parameters[at(index)].name;
  }
  return text;
}

bool is_transfer(InstructionKind kind) {
  return kind == InstructionKind::kPostSend || kind == InstructionKind::kPostReceive ||
         kind == InstructionKind::kWait;
}

std::string describe_with(const Instruction& instruction,
                          const Program& program,
                          const Graph* graph) {
  std::string text = what(instruction, program);
  if (instruction.microbatch >= 0) {
    text += fmt::format(" mb {}", instruction.microbatch);
  }
  if (instruction.layer >= 0) {
    text += graph == nullptr ? fmt::format(" layer {}", instruction.layer)
                             : " " + graph->layers[at(instruction.layer)].name;
  }
  if (instruction.op >= 0) {
    text += graph == nullptr
                ? fmt::format(" op {}", instruction.op)
                : " " + graph->block_of(instruction.layer).ops[at(instruction.op)].name;
  }
  text += parameter_names(instruction.parameters, program);
  if (!is_transfer(instruction.kind)) {
    if (!instruction.reads.empty()) {
      text += "  " + buffers(instruction.reads);
    }
    if (!instruction.writes.empty()) {
      text += (instruction.reads.empty() ? "  -> " : " -> ") + buffers(instruction.writes);
    }
  }
  if (instruction.in_place >= 0) {
    text += fmt::format(" in place of %{}", instruction.in_place);
  }
  if (!instruction.frees.empty()) {
    text += "  frees " + buffers(instruction.frees);
  }
  return text;
}

std::string parameter_line(const LocalParameter& parameter, const Program& program) {
  std::string text = fmt::format("  {} [{}] of [{}]",
                                 parameter.name,
                                 fmt::join(parameter.shape, ", "),
                                 fmt::join(parameter.global_shape, ", "));
  if (parameter.group >= 0) {
    text += fmt::format(", gradient over ranks {}",
                        fmt::join(program.groups[at(parameter.group)], " "));
  }
  if (parameter.state_sharding != StateSharding::kNone) {
    text += ", sharded: " + to_string(parameter.state_sharding);
  }
  if (parameter.tied_owner >= 0) {
    text += ", values from its owner";
  }
  return text + "\n";
}

}  // namespace

std::string describe(const Instruction& instruction, const Program& program, const Graph& graph) {
  return describe_with(instruction, program, &graph);
}

std::string describe(const Instruction& instruction, const Program& program) {
  return describe_with(instruction, program, nullptr);
}

std::string dump(const Program& program, const Graph& graph) {
  std::string text = program.stage < 0 ? fmt::format("rank {} (idle)\n", program.rank)
                                       : fmt::format("rank {} (stage {}, mesh {})\n",
                                                     program.rank,
                                                     program.stage,
                                                     to_string(program.mesh));
  for (const LocalParameter& parameter : program.parameters) {
    text += parameter_line(parameter, program);
  }
  std::set<BufferId> shown;
  for (std::size_t i = 0; i < program.instructions.size(); ++i) {
    const Instruction& instruction = program.instructions[i];
    text += fmt::format("{:6}  {}", i, describe(instruction, program, graph));
    for (const BufferId id : instruction.writes) {
      if (id >= 0 && shown.insert(id).second) {
        const Buffer& buffer = program.buffers[at(id)];
        text += fmt::format("  %{} [{}]", id, fmt::join(buffer.shape, ", "));
      }
    }
    text += "\n";
  }
  return text;
}

}  // namespace shardwise
