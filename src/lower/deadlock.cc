#include "lower/deadlock.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <tuple>
#include <vector>

#include "lower/dump.h"

namespace shardwise {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

// A barrier to take part in: members (global ranks) and a channel, so that the communication
// thread's collectives and a kernel's do not meet.
struct Barrier {
  enum class Channel { kMain, kReductions, kWorld };
  Channel channel = Channel::kMain;
  std::vector<int> members;
};

// (from, to, tag) and whether it is a tied message: both ends post with the same.
using MessageKey = std::tuple<int, int, int, int>;

class Replay {
 public:
  explicit Replay(std::span<const Program> programs) : programs_(programs) {
    for (std::size_t i = 0; i < programs.size(); ++i) {
      index_of_rank_[programs[i].rank] = i;
      world_.push_back(programs[i].rank);
    }
    ranks_.resize(programs.size());
  }

  std::optional<std::string> run() {
    bool progress = true;
    while (progress) {
      progress = false;
      for (std::size_t i = 0; i < ranks_.size(); ++i) {
        progress |= run_reductions(i);
        while (step(i)) {
          progress = true;
          run_reductions(i);
        }
      }
    }
    const bool all_end = std::all_of(ranks_.begin(), ranks_.end(), [this](const Rank& rank) {
      return ended(static_cast<std::size_t>(&rank - ranks_.data()));
    });
    return all_end ? std::nullopt : std::optional(describe_circle());
  }

 private:
  struct Rank {
    std::size_t next = 0;          // instruction
    std::deque<Barrier> barriers;  // of the current instruction, still to pass
    bool has_entered = false;      // the current instruction
    bool has_arrived = false;      // at barriers.front()
    std::deque<Barrier> reductions;
    bool reduction_has_arrived = false;
  };

  bool ended(std::size_t i) const { return ranks_[i].next == programs_[i].instructions.size(); }

  // --- barriers ---------------------------------------------------------------------------------

  using BarrierKey = std::pair<int, std::vector<int>>;
  static BarrierKey key_of(const Barrier& barrier) {
    return {static_cast<int>(barrier.channel), barrier.members};
  }

  void arrive(const Barrier& barrier, std::size_t i) {
    ++arrivals_[key_of(barrier)][programs_[i].rank];
  }

  // Members that have been at this barrier less often than this rank.
  std::vector<int> missing(const Barrier& barrier, std::size_t i) {
    std::map<int, int>& arrived = arrivals_[key_of(barrier)];
    const int own = arrived[programs_[i].rank];
    std::vector<int> result;
    for (const int member : barrier.members) {
      if (arrived[member] < own) {
        result.push_back(member);
      }
    }
    return result;
  }

  // Passes the first barrier of a queue if all members have come.
  bool pass(std::deque<Barrier>& queue, bool& has_arrived, std::size_t i) {
    if (queue.empty()) {
      return false;
    }
    if (!has_arrived) {
      arrive(queue.front(), i);
      has_arrived = true;
    }
    if (!missing(queue.front(), i).empty()) {
      return false;
    }
    queue.pop_front();
    has_arrived = false;
    return true;
  }

  bool run_reductions(std::size_t i) {
    bool progress = false;
    while (pass(ranks_[i].reductions, ranks_[i].reduction_has_arrived, i)) {
      progress = true;
    }
    return progress;
  }

  // One barrier for each (group, state sharding) of the parameters, in order.
  std::deque<Barrier> exchange_barriers(const Program& program,
                                        const Instruction& instruction,
                                        Barrier::Channel channel) const {
    std::set<std::pair<int, StateSharding>> seen;
    std::deque<Barrier> barriers;
    for (const int index : instruction.parameters) {
      const LocalParameter& parameter = program.parameters[at(index)];
      if (parameter.group >= 0 && seen.insert({parameter.group, parameter.state_sharding}).second) {
        barriers.push_back({channel, program.groups[at(parameter.group)]});
      }
    }
    return barriers;
  }

  std::deque<Barrier> barriers_of(const Program& program, const Instruction& instruction) const {
    std::deque<Barrier> barriers;
    switch (instruction.kind) {
      case InstructionKind::kCollective:
        if (instruction.group >= 0) {
          barriers.push_back({Barrier::Channel::kMain, program.groups[at(instruction.group)]});
        }
        break;
      case InstructionKind::kCompute:
        if (instruction.internal >= 0) {
          for (const InternalCollective& inside : program.internal[at(instruction.internal)]) {
            const int group = program.group_of_axes[1U << inside.mesh_axis];
            barriers.push_back({Barrier::Channel::kMain, program.groups[at(group)]});
          }
        }
        break;
      case InstructionKind::kGatherParameters:
      case InstructionKind::kGatherUpdated:
        return exchange_barriers(program, instruction, Barrier::Channel::kMain);
      case InstructionKind::kGradientNorm:
        barriers.push_back({Barrier::Channel::kWorld, world_});
        break;
      default:
        break;
    }
    return barriers;
  }

  // --- messages ---------------------------------------------------------------------------------

  static MessageKey key_of(int rank, bool sends, int peer, int tag, int tied) {
    return sends ? MessageKey{rank, peer, tag, tied} : MessageKey{peer, rank, tag, tied};
  }

  void post(const MessageKey& key, bool sends) { ++(sends ? sent_ : received_)[key]; }

  bool is_matched(const MessageKey& key, bool sends) {
    return sends ? received_[key] >= sent_[key] : sent_[key] >= received_[key];
  }

  // Tied messages of an instruction; nullptr for others.
  static const std::vector<TiedMessage>* tied_messages_of(const Program& program,
                                                          const Instruction& instruction) {
    switch (instruction.kind) {
      case InstructionKind::kTiedGradient:
        return &program.tied[at(instruction.tied)].gradient_messages;
      case InstructionKind::kTiedParameter:
        return &program.tied[at(instruction.tied)].parameter_messages;
      default:
        return nullptr;
    }
  }
  static int tied_kind(const Instruction& instruction) {
    return instruction.kind == InstructionKind::kTiedGradient ? 1 : 2;
  }

  void post_messages(const Program& program, const Instruction& instruction) {
    if (instruction.kind == InstructionKind::kPostSend ||
        instruction.kind == InstructionKind::kPostReceive) {
      const Transfer& transfer = program.transfers[at(instruction.transfer)];
      post(key_of(program.rank, transfer.sends, transfer.peer, transfer.tag, 0), transfer.sends);
    }
    if (const auto* messages = tied_messages_of(program, instruction)) {
      for (const TiedMessage& message : *messages) {
        const int kind = tied_kind(instruction);
        post(key_of(program.rank, message.sends, message.peer, message.tag, kind), message.sends);
      }
    }
  }

  // Peer whose side of a message this instruction waits for.
  std::optional<int> missing_peer(const Program& program, const Instruction& instruction) {
    if (instruction.kind == InstructionKind::kWait) {
      const Transfer& transfer = program.transfers[at(instruction.transfer)];
      const MessageKey key = key_of(program.rank, transfer.sends, transfer.peer, transfer.tag, 0);
      return is_matched(key, transfer.sends) ? std::nullopt : std::optional(transfer.peer);
    }
    if (const auto* messages = tied_messages_of(program, instruction)) {
      for (const TiedMessage& message : *messages) {
        const MessageKey key =
            key_of(program.rank, message.sends, message.peer, message.tag, tied_kind(instruction));
        if (!is_matched(key, message.sends)) {
          return message.peer;
        }
      }
    }
    return std::nullopt;
  }

  // --- steps ------------------------------------------------------------------------------------

  // Whether the rank has finished an instruction or passed a barrier of it.
  bool step(std::size_t i) {
    if (ended(i)) {
      return false;
    }
    Rank& rank = ranks_[i];
    const Program& program = programs_[i];
    const Instruction& instruction = program.instructions[rank.next];
    if (!rank.has_entered) {
      rank.has_entered = true;
      rank.barriers = barriers_of(program, instruction);
      post_messages(program, instruction);
      if (instruction.kind == InstructionKind::kReduceGradients) {
        for (Barrier& barrier :
             exchange_barriers(program, instruction, Barrier::Channel::kReductions)) {
          rank.reductions.push_back(std::move(barrier));
        }
      }
    }
    if (!rank.barriers.empty()) {
      return pass(rank.barriers, rank.has_arrived, i);
    }
    if (missing_peer(program, instruction) ||
        (instruction.kind == InstructionKind::kWaitReductions && !rank.reductions.empty())) {
      return false;
    }
    ++rank.next;
    rank.has_entered = false;
    return true;
  }

  // --- what to say ------------------------------------------------------------------------------

  // A rank that this blocked rank waits for.
  int awaited(std::size_t i) {
    const Rank& rank = ranks_[i];
    const Instruction& instruction = programs_[i].instructions[rank.next];
    if (!rank.barriers.empty()) {
      return missing(rank.barriers.front(), i).front();
    }
    if (const std::optional<int> peer = missing_peer(programs_[i], instruction)) {
      return *peer;
    }
    return missing(rank.reductions.front(), i).front();
  }

  std::string describe_circle() {
    std::size_t i = 0;
    while (ended(i)) {
      ++i;
    }
    std::vector<std::size_t> path;
    while (std::find(path.begin(), path.end(), i) == path.end()) {
      path.push_back(i);
      const auto next = index_of_rank_.find(awaited(i));
      if (next == index_of_rank_.end() || ended(next->second)) {
        return describe_path(path, "which has ended");
      }
      i = next->second;
    }
    path.erase(path.begin(), std::find(path.begin(), path.end(), i));
    return describe_path(path, "where the circle closes");
  }

  std::string describe_path(const std::vector<std::size_t>& path, const std::string& end) {
    std::string text;
    for (const std::size_t i : path) {
      const Rank& rank = ranks_[i];
      text += fmt::format("rank {} stands at instruction {} ({}) and waits for rank {}{}",
                          programs_[i].rank,
                          rank.next,
                          describe(programs_[i].instructions[rank.next], programs_[i]),
                          awaited(i),
                          i == path.back() ? ", " + end : "; ");
    }
    return text;
  }

  std::span<const Program> programs_;
  std::vector<int> world_;
  std::map<int, std::size_t> index_of_rank_;
  std::vector<Rank> ranks_;
  std::map<BarrierKey, std::map<int, int>> arrivals_;
  std::map<MessageKey, int> sent_;
  std::map<MessageKey, int> received_;
};

}  // namespace

std::optional<std::string> find_deadlock(std::span<const Program> programs) {
  return Replay(programs).run();
}

}  // namespace shardwise
