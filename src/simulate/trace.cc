#include "simulate/trace.h"

#include <fmt/format.h>

#include <iterator>
#include <map>
#include <optional>

#include "core/errors.h"

namespace shardwise {

namespace {

constexpr int kThreads = 4;
constexpr const char* kThreadNames[kThreads] = {
    "compute", "collectives", "reductions", "point-to-point"};

int thread_of(const Slice& slice) {
  switch (slice.stream) {
    case Stream::kCompute:
      return 0;
    case Stream::kCollectives:
      return slice.is_reduction ? 2 : 1;
    case Stream::kPointToPoint:
      return 3;
  }
  return 0;
}

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      result.push_back('\\');
    }
    result.push_back(static_cast<unsigned char>(c) < 0x20 ? ' ' : c);
  }
  return result;
}

// Whole picoseconds as microseconds, exactly.
std::string microseconds(Picoseconds time) {
  return fmt::format("{}.{:06}", time.count / 1000000, time.count % 1000000);
}

class TraceWriter {
 public:
  TraceWriter(const Simulation& simulation, const Graph& graph)
      : simulation_(simulation), graph_(graph) {}

  std::string write() {
    text_ = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[";
    std::map<int, int> ranks_of_stage;
    for (const RankActivity& rank : simulation_.ranks) {
      place_of_rank_[rank.rank] = {rank.stage, kThreads * ranks_of_stage[rank.stage]++};
      name_threads(rank);
    }
    for (const Slice& slice : simulation_.slices) {
      add_slice(slice);
    }
    for (const MemorySample& sample : simulation_.memory) {
      add_sample(sample);
    }
    text_ += "\n]}\n";
    return std::move(text_);
  }

 private:
  struct Place {
    int process = 0;
    int first_thread = 0;
  };

  template <typename... Arguments>
  void add(fmt::format_string<Arguments...> form, Arguments&&... arguments) {
    text_ += is_first_ ? "\n" : ",\n";
    is_first_ = false;
    fmt::format_to(std::back_inserter(text_), form, std::forward<Arguments>(arguments)...);
  }

  void name_threads(const RankActivity& rank) {
    const Place& place = place_of_rank_[rank.rank];
    if (place.first_thread == 0) {
      add(R"({{"ph":"M","name":"process_name","pid":{0},"tid":0,"args":{{"name":"stage {0}"}}}})",
          place.process);
      add(R"({{"ph":"M","name":"process_sort_index","pid":{0},"tid":0,"args":{{"sort_index":{0}}}}})",
          place.process);
    }
    const std::string alike =
        rank.alike > 1 ? fmt::format(" (and {} like it)", rank.alike - 1) : "";
    for (int t = 0; t < kThreads; ++t) {
      add(R"({{"ph":"M","name":"thread_name","pid":{},"tid":{},"args":{{"name":"rank {}{}: {}"}}}})",
          place.process,
          place.first_thread + t,
          rank.rank,
          alike,
          kThreadNames[t]);
    }
  }

  void add_slice(const Slice& slice) {
    const Place& place = place_of_rank_[slice.rank];
    std::string arguments;
    const auto argue = [&arguments](const std::string& name, const std::string& value) {
      arguments += fmt::format("{}\"{}\":{}", arguments.empty() ? "" : ",", name, value);
    };
    if (slice.microbatch >= 0) {
      argue("microbatch", std::to_string(slice.microbatch));
    }
    if (slice.layer >= 0) {
      const std::string& layer = graph_.layers[static_cast<std::size_t>(slice.layer)].name;
      argue("layer", fmt::format("\"{}\"", escaped(layer)));
    }
    if (slice.bytes.count > 0) {
      argue("bytes", std::to_string(slice.bytes.count));
    }
    if (slice.peer >= 0) {
      argue("peer", std::to_string(slice.peer));
    }
    add(R"({{"ph":"X","name":"{}","pid":{},"tid":{},"ts":{},"dur":{},"args":{{{}}}}})",
        escaped(slice_name(slice, graph_)),
        place.process,
        place.first_thread + thread_of(slice),
        microseconds(slice.begin),
        microseconds(slice.end - slice.begin),
        arguments);
  }

  void add_sample(const MemorySample& sample) {
    const auto [last, is_new] = last_sample_.try_emplace(sample.rank, sample.bytes);
    if (!is_new && last->second == sample.bytes) {
      return;
    }
    last->second = sample.bytes;
    add(R"({{"ph":"C","name":"memory of rank {}","pid":{},"tid":0,"ts":{},"args":{{"bytes":{}}}}})",
        sample.rank,
        place_of_rank_[sample.rank].process,
        microseconds(sample.time),
        sample.bytes.count);
  }

  const Simulation& simulation_;
  const Graph& graph_;
  std::string text_;
  bool is_first_ = true;
  std::map<int, Place> place_of_rank_;
  std::map<int, Bytes> last_sample_;
};

const char* direction_name(const Slice& slice) {
  switch (slice.direction) {
    case Direction::kForward:
      return slice.again ? "again" : "forward";
    case Direction::kBackwardInput:
      return "backward input";
    case Direction::kBackwardWeight:
      return "backward weight";
    case Direction::kBackward:
      return "backward";
  }
  return "";
}

}  // namespace

std::string slice_name(const Slice& slice, const Graph& graph) {
  if (slice.stream == Stream::kPointToPoint) {
    return slice.kind == InstructionKind::kTiedGradient    ? "send tied gradient"
           : slice.kind == InstructionKind::kTiedParameter ? "send tied values"
                                                           : "send";
  }
  if (slice.stream == Stream::kCollectives) {
    return to_string(slice.collective);
  }
  switch (slice.kind) {
    case InstructionKind::kCompute:
      return fmt::format("{} {}",
                         direction_name(slice),
                         graph.block_of(slice.layer).ops[static_cast<std::size_t>(slice.op)].name);
    case InstructionKind::kAccumulate:
      return "add gradients";
    case InstructionKind::kUpdate:
      return "update";
    default:
      return "other";
  }
}

std::string to_trace_json(const Simulation& simulation, const Graph& graph) {
  return TraceWriter(simulation, graph).write();
}

}  // namespace shardwise
