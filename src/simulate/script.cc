// How a script is made: ScriptWriter walks a program, prices each instruction and follows which
// bytes are alive. What takes no time (loads, copies, slices, releases) leaves no step.
#include "simulate/script.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "core/errors.h"
#include "simulate/live_bytes.h"

namespace shardwise::internal {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

// A number in [0, 1) from three others (splitmix64).
double uniform_number(std::uint64_t seed, std::uint64_t rank, std::uint64_t place) {
  std::uint64_t z = seed * 0x9e3779b97f4a7c15ULL + rank * 0xbf58476d1ce4e5b9ULL + place;
  for (int round = 0; round < 2; ++round) {
    z += 0x9e3779b97f4a7c15ULL;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    z ^= z >> 31;
  }
  return static_cast<double>(z >> 11) * 0x1.0p-53;
}

class ScriptWriter {
 public:
  ScriptWriter(const Program& program, InstructionPrices& prices, const SimulationOptions& options)
      : program_(program), prices_(prices), options_(options), live_(program) {
    script_.rank = program.rank;
    script_.stage = program.stage;
    script_.device_type = prices.cluster().type_of(program.rank);
    for (const Straggler& straggler : options.stragglers) {
      slowness_ *= straggler.rank == program.rank ? straggler.factor : 1.0;
    }
    message_of_transfer_.assign(program.transfers.size(), -1);
  }

  Script write() {
    if (options_.overlap.tensor) {
      find_hidden_conversions();
    }
    for (place_ = 0; place_ < program_.instructions.size(); ++place_) {
      const Instruction& instruction = program_.instructions[place_];
      is_task_ = is_task_ && instruction.kind != InstructionKind::kWaitReductions;
      live_.begin(instruction);
      add(instruction);
      live_.end(instruction);
      if (keeps_labels() && !script_.labels.empty()) {
        script_.labels.back().memory_after = live_.bytes();
      }
    }
    script_.state = live_.state();
    script_.peak_memory = live_.state() + live_.peak();
    return std::move(script_);
  }

 private:
  bool keeps_labels() const { return options_.timeline == SimulationOptions::Timeline::kRecord; }

  // --- durations --------------------------------------------------------------------------------

  Picoseconds slowed(Picoseconds time, int microbatch) const {
    const double slowness = microbatch < 0 || options_.microbatch_factors.empty()
                                ? slowness_
                                : slowness_ * options_.microbatch_factors[at(microbatch)];
    if (slowness == 1.0 && options_.jitter == 0) {
      return time;
    }
    const double z = std::sqrt(3.0) * (2 * uniform_number(options_.seed,
                                                          static_cast<std::uint64_t>(program_.rank),
                                                          static_cast<std::uint64_t>(place_)) -
                                       1);
    const double factor = slowness * (1 + options_.jitter * z);
    return Picoseconds(std::llround(static_cast<double>(time.count) * factor));
  }

  std::int64_t compute_bytes() const {
    return element_bytes(ElementType::kCompute, program_.precision);
  }

  // --- steps ------------------------------------------------------------------------------------

  void label(const Instruction& instruction, Stream stream, Bytes bytes) {
    if (!keeps_labels()) {
      return;
    }
    StepLabel& label = script_.labels.emplace_back();
    label.what.rank = program_.rank;
    label.what.stream = stream;
    label.what.kind = instruction.kind;
    label.what.direction = instruction.direction;
    label.what.again = instruction.again;
    label.what.layer = instruction.layer;
    label.what.op = instruction.op;
    label.what.microbatch = instruction.microbatch;
    label.what.bytes = bytes;
    label.memory_before = live_.bytes() + instruction.workspace;
  }

  void work(const Instruction& instruction, Picoseconds time, Bytes bytes = Bytes(0)) {
    const Picoseconds duration = slowed(time, instruction.microbatch);
    if (!keeps_labels() && !script_.steps.empty() && script_.steps.back().kind == StepKind::kWork &&
        script_.steps.back().is_task == is_task_) {
      script_.steps.back().duration += duration;
      return;
    }
    script_.steps.push_back({StepKind::kWork, is_task_, -1, duration});
    label(instruction, Stream::kCompute, bytes);
  }

  int meeting(Channel channel, int group) {
    const auto [entry, is_new] =
        meetings_.try_emplace({channel, group}, static_cast<int>(script_.meetings.size()));
    if (is_new) {
      script_.meetings.push_back(
          {channel, group < 0 ? std::vector<int>{} : program_.groups[at(group)]});
    }
    return entry->second;
  }

  void meet(const Instruction& instruction,
            StepKind kind,
            int group,
            Picoseconds time,
            Bytes payload,
            CollectiveKind collective) {
    const Channel channel = kind == StepKind::kReduce ? Channel::kReductions : Channel::kMain;
    script_.steps.push_back({kind, is_task_, meeting(channel, group), time});
    label(instruction, Stream::kCollectives, payload);
    if (keeps_labels()) {
      script_.labels.back().what.collective = collective;
    }
  }

  void step(const Instruction& instruction, StepKind kind, int index) {
    script_.steps.push_back({kind, is_task_, index, Picoseconds(0)});
    label(instruction,
          Stream::kPointToPoint,
          kind == StepKind::kPost ? Bytes(script_.messages[at(index)].bytes) : Bytes(0));
    if (keeps_labels() && kind == StepKind::kPost) {
      script_.labels.back().what.peer = script_.messages[at(index)].peer;
    }
  }

  void add(const Instruction& instruction) {
    switch (instruction.kind) {
      case InstructionKind::kLoad:
      case InstructionKind::kCopy:
      case InstructionKind::kReleaseParameters:
        return;
      case InstructionKind::kCompute:
        return add_kernel(instruction);
      case InstructionKind::kCollective:
        return add_conversion(instruction);
      case InstructionKind::kAccumulate:
        return work(instruction,
                    prices_.accumulation(program_.buffers[at(instruction.writes[0])].bytes,
                                         script_.device_type));
      case InstructionKind::kPostSend:
      case InstructionKind::kPostReceive:
        return step(instruction, StepKind::kPost, message_of(instruction));
      case InstructionKind::kWait:
        return step(instruction, StepKind::kWait, message_of(instruction));
      case InstructionKind::kGatherParameters:
      case InstructionKind::kGatherUpdated:
      case InstructionKind::kReduceGradients:
        return add_exchange(instruction);
      case InstructionKind::kWaitReductions:
        return step(instruction, StepKind::kWaitReductions, -1);
      case InstructionKind::kTiedGradient:
        return add_tied(instruction, program_.tied[at(instruction.tied)].gradient_messages, 1);
      case InstructionKind::kGradientNorm:
        script_.steps.push_back({StepKind::kMeet, false, meeting(Channel::kWorld, -1), {}});
        return label(instruction, Stream::kCollectives, Bytes(0));
      case InstructionKind::kUpdate:
        return add_update(instruction);
      case InstructionKind::kTiedParameter:
        return add_tied(instruction, program_.tied[at(instruction.tied)].parameter_messages, 2);
    }
  }

  void add_kernel(const Instruction& instruction) {
    work(instruction, prices_.kernel(program_, instruction, script_.device_type));
    if (instruction.internal < 0) {
      return;
    }
    for (const InternalCollective& inside : program_.internal[at(instruction.internal)]) {
      const int group = program_.group_of_axes[1U << inside.mesh_axis];
      // The loss talks in fp32; what the others send is only moved.
      meet(instruction,
           StepKind::kMeet,
           group,
           prices_.collective(inside.kind, inside.payload, Precision::kFloat32, program_, group),
           inside.payload,
           inside.kind);
    }
  }

  void add_conversion(const Instruction& instruction) {
    const CollectiveStep& what = instruction.collective;
    if (instruction.group < 0) {
      return;
    }
    Picoseconds time = conversion_time(instruction);
    if (const auto hidden = hidden_.find(place_); hidden != hidden_.end()) {
      time -= std::min(time, hidden->second);
    }
    meet(instruction,
         StepKind::kMeet,
         instruction.group,
         time,
         conversion_payload(instruction),
         what.kind);
  }

  Bytes conversion_payload(const Instruction& instruction) const {
    const Buffer& source = program_.buffers[at(instruction.reads[0])];
    return collective_payload(
        instruction.collective, program_.mesh, element_bytes(source.type, program_.precision));
  }

  Picoseconds conversion_time(const Instruction& instruction) {
    const Buffer& source = program_.buffers[at(instruction.reads[0])];
    const Precision sent =
        source.type == ElementType::kCompute ? program_.precision : Precision::kFloat32;
    return prices_.collective(instruction.collective.kind,
                              conversion_payload(instruction),
                              sent,
                              program_,
                              instruction.group);
  }

  // What parameters of one op exchange together.
  struct Bucket {
    StateSharding sharding = StateSharding::kNone;
    std::int64_t elements = 0;  // padded
  };

  void add_exchange(const Instruction& instruction) {
    std::map<std::pair<int, StateSharding>, Bucket> buckets;
    for (const int index : instruction.parameters) {
      const LocalParameter& parameter = program_.parameters[at(index)];
      if (parameter.group >= 0) {
        Bucket& bucket = buckets[{parameter.group, parameter.state_sharding}];
        bucket.sharding = parameter.state_sharding;
        bucket.elements += parameter.reduction_degree * parameter.chunk;
      }
    }
    const bool reduces = instruction.kind == InstructionKind::kReduceGradients;
    for (const auto& [key, bucket] : buckets) {
      CollectiveKind kind = CollectiveKind::kAllGather;
      Bytes payload(bucket.elements * compute_bytes());
      if (reduces) {
        const bool whole = bucket.sharding == StateSharding::kNone;
        kind = whole ? CollectiveKind::kAllReduce : CollectiveKind::kReduceScatter;
        payload = Bytes(bucket.elements * 4 * (whole ? 2 : 1));
      }
      const Precision sent = reduces ? Precision::kFloat32 : program_.precision;
      const bool runs_beside = reduces && options_.overlap.data;
      meet(instruction,
           runs_beside ? StepKind::kReduce : StepKind::kMeet,
           key.first,
           prices_.collective(kind, payload, sent, program_, key.first),
           payload,
           kind);
    }
  }

  void add_update(const Instruction& instruction) {
    std::int64_t elements = 0;
    for (const int index : instruction.parameters) {
      const LocalParameter& parameter = program_.parameters[at(index)];
      elements += parameter.state_sharding >= StateSharding::kOptimizer ? parameter.chunk
                                                                        : parameter.elements;
    }
    work(instruction, prices_.update(elements, script_.device_type));
  }

  // --- messages ---------------------------------------------------------------------------------

  // The end that a transfer is, made when first named: a broken program may wait before it posts.
  int message_of(const Instruction& instruction) {
    int& known = message_of_transfer_[at(instruction.transfer)];
    if (known < 0) {
      const Transfer& transfer = program_.transfers[at(instruction.transfer)];
      MessageEnd end;
      end.sends = transfer.sends;
      end.peer = transfer.peer;
      end.tag = transfer.tag;
      end.passage = transfer.passage;
      end.ordinal = ends_of_buffer_[{transfer.buffer, transfer.sends}]++;
      end.microbatch = program_.buffers[at(transfer.buffer)].microbatch;
      end.bytes = transfer.bytes.count;
      known = static_cast<int>(script_.messages.size());
      script_.messages.push_back(end);
    }
    return known;
  }

  void add_tied(const Instruction& instruction,
                const std::vector<TiedMessage>& messages,
                int kind) {
    std::vector<int> posted;
    std::map<bool, int> ends;  // so far, by direction
    for (const TiedMessage& message : messages) {
      if (message.peer == program_.rank) {
        continue;
      }
      const int ordinal = ends[message.sends]++;
      MessageEnd end;
      end.sends = message.sends;
      end.peer = message.peer;
      end.tag = message.tag;
      end.kind = kind;
      end.passage = program_.tied[at(instruction.tied)].number;
      end.ordinal = ordinal;
      end.bytes = message.bytes.count;
      posted.push_back(static_cast<int>(script_.messages.size()));
      script_.messages.push_back(end);
    }
    for (const int message : posted) {
      step(instruction, StepKind::kPost, message);
    }
    for (const int message : posted) {
      step(instruction, StepKind::kWait, message);
    }
  }

  // --- conversions that run beside a product ----------------------------------------------------

  const Instruction* neighbour(std::size_t place, int offset) const {
    const auto index = static_cast<std::ptrdiff_t>(place) + offset;
    return index < 0 || index >= static_cast<std::ptrdiff_t>(program_.instructions.size())
               ? nullptr
               : &program_.instructions[static_cast<std::size_t>(index)];
  }

  // A gather hides behind the product that reads its result, a reduction behind the one that wrote
  // its input; every product hides one conversion.
  void find_hidden_conversions() {
    std::set<const Instruction*> used;
    for (std::size_t i = 0; i < program_.instructions.size(); ++i) {
      const Instruction& conversion = program_.instructions[i];
      if (conversion.kind != InstructionKind::kCollective || conversion.group < 0) {
        continue;
      }
      const bool gathers = conversion.collective.kind == CollectiveKind::kAllGather;
      for (int offset = 1; offset <= kReach; ++offset) {
        const Instruction* product = neighbour(i, gathers ? offset : -offset);
        if (product == nullptr || !touches(*product, conversion, gathers)) {
          continue;
        }
        if (is_product(*product) && used.insert(product).second) {
          hidden_[i] = hideable(conversion, *product);
          break;
        }
      }
    }
  }

  bool is_product(const Instruction& instruction) const {
    if (instruction.kind != InstructionKind::kCompute) {
      return false;
    }
    const Op& op = prices_.graph().block_of(instruction.layer).ops[at(instruction.op)];
    return op.kind == OpKind::kLinear;
  }

  static bool touches(const Instruction& product, const Instruction& conversion, bool gathers) {
    const std::vector<BufferId>& ends = gathers ? product.reads : product.writes;
    const BufferId between = gathers ? conversion.writes[0] : conversion.reads[0];
    return std::find(ends.begin(), ends.end(), between) != ends.end();
  }

  Picoseconds hideable(const Instruction& conversion, const Instruction& product) {
    const double n = static_cast<double>(program_.mesh.sizes[at(conversion.collective.mesh_axis)]);
    const double share = (n - 1) / n * prices_.overlap_fraction(script_.device_type);
    const Picoseconds time = prices_.kernel(program_, product, script_.device_type);
    return Picoseconds(static_cast<std::int64_t>(share * static_cast<double>(time.count)));
  }

  static constexpr int kReach = 6;  // instructions between a conversion and its product

  const Program& program_;
  InstructionPrices& prices_;
  const SimulationOptions& options_;
  LiveBytes live_;
  Script script_;
  double slowness_ = 1;
  std::size_t place_ = 0;
  bool is_task_ = true;  // of a micro-batch
  std::vector<int> message_of_transfer_;
  std::map<std::pair<BufferId, bool>, int> ends_of_buffer_;
  std::map<std::pair<Channel, int>, int> meetings_;
  std::map<std::size_t, Picoseconds> hidden_;  // by place of the conversion
};

}  // namespace

Script make_script(const Program& program,
                   InstructionPrices& prices,
                   const SimulationOptions& options) {
  Script script = ScriptWriter(program, prices, options).write();
  if (!options.overlap.pipeline) {
    make_sends_synchronous(script);
  }
  return script;
}

}  // namespace shardwise::internal
