#include "io/piper_problem.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <set>
#include <string>
#include <utility>

namespace shardwise {

namespace {

constexpr double kLargest = 1e18;
constexpr int kMaxDegree = 10'000;

double number_of(const JsonValue& value) { return value.as_double(0, kLargest); }

int integer_key(const std::string& key, const JsonValue& value, const char* what) {
  int number = 0;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), number);
  if (error != std::errc() || end != key.data() + key.size()) {
    throw value.error(fmt::format("expected {} as key", what));
  }
  return number;
}

class PiperReader {
 public:
  explicit PiperReader(const JsonValue& file) : file_(file) {}

  PiperProblem read() {
    problem_.devices = file_.at("maxDevices").as_int(1, kMaxDegree);
    problem_.memory_bytes = number_of(file_.at("maxMemoryPerDevice"));
    problem_.bandwidth = file_.at("bandwidth").as_double(1e-9, kLargest);
    problem_.microbatches = file_.at("mbsInBatch").as_int(1);
    const auto nodes = file_.at("nodes").items();
    if (nodes.empty()) {
      throw file_.at("nodes").unexpected("at least one node");
    }
    for (const JsonValue& node : nodes) {
      const int id = node.at("id").as_int();
      if (!index_of_.emplace(id, static_cast<int>(problem_.nodes.size())).second) {
        throw node.at("id").error(fmt::format("node {} stands twice", id));
      }
      problem_.nodes.emplace_back();
      problem_.nodes.back().id = id;
      if (const auto name = node.find("name")) {
        problem_.nodes.back().name = name->as_string();
      }
    }
    read_edges();
    for (std::size_t v = 0; v < nodes.size(); ++v) {
      read_degrees(nodes[v].at("TMPCs"), problem_.nodes[v]);
    }
    check_acyclic();
    return std::move(problem_);
  }

 private:
  int node_at(const JsonValue& id) const {
    const auto found = index_of_.find(id.as_int());
    if (found == index_of_.end()) {
      throw id.unexpected("the id of a node in 'nodes'");
    }
    return found->second;
  }

  void read_edges() {
    std::set<std::pair<int, int>> seen;
    for (const JsonValue& value : file_.at("edges").items()) {
      PiperEdge edge;
      edge.source = node_at(value.at("sourceId"));
      edge.target = node_at(value.at("destId"));
      edge.bytes = number_of(value.at("communicationCost"));
      if (!seen.emplace(edge.source, edge.target).second) {
        throw value.error("this edge stands twice");
      }
      const int index = static_cast<int>(problem_.edges.size());
      problem_.nodes[static_cast<std::size_t>(edge.source)].edges_out.push_back(index);
      problem_.nodes[static_cast<std::size_t>(edge.target)].edges_in.push_back(index);
      problem_.edges.push_back(edge);
    }
  }

  void read_degrees(const JsonValue& value, PiperNode& node) const {
    for (const auto& [key, list] : value.members()) {
      PiperDegree degree;
      degree.tensor = integer_key(key, list, "a tensor degree");
      if (degree.tensor < 1 || degree.tensor > kMaxDegree) {
        throw list.error("expected a tensor degree of at least 1 as key");
      }
      for (const JsonValue& one : list.items()) {
        degree.implementations.push_back(implementation_of(one, node));
      }
      node.degrees.push_back(std::move(degree));
    }
    std::sort(node.degrees.begin(), node.degrees.end(), [](const auto& a, const auto& b) {
      return a.tensor < b.tensor;
    });
    if (node.degrees.empty()) {
      throw value.unexpected("at least one tensor degree");
    }
  }

  PiperImplementation implementation_of(const JsonValue& value, const PiperNode& node) const {
    PiperImplementation result;
    result.id = value.at("id").as_string();
    result.time_s = number_of(value.at("timePerSample"));
    result.parameter_bytes = number_of(value.at("parameterSize"));
    result.memory_slope_bytes = number_of(value.at("memoryUsageA"));
    result.memory_base_bytes = number_of(value.at("memoryUsageB"));
    const auto sync_of = [&](const JsonValue& group, int neighbour) {
      return number_of(
          group.at(fmt::format("{}", problem_.nodes[static_cast<std::size_t>(neighbour)].id)));
    };
    const JsonValue in = value.at("syncTimeFw");
    for (const int e : node.edges_in) {
      result.sync_in_bytes.push_back(
          sync_of(in, problem_.edges[static_cast<std::size_t>(e)].source));
    }
    const JsonValue out = value.at("syncTimeBw");
    for (const int e : node.edges_out) {
      result.sync_out_bytes.push_back(
          sync_of(out, problem_.edges[static_cast<std::size_t>(e)].target));
    }
    return result;
  }

  void check_acyclic() const {
    std::vector<std::size_t> open(problem_.nodes.size());
    std::vector<int> ready;
    for (std::size_t v = 0; v < open.size(); ++v) {
      open[v] = problem_.nodes[v].edges_in.size();
      if (open[v] == 0) {
        ready.push_back(static_cast<int>(v));
      }
    }
    std::size_t done = 0;
    while (!ready.empty()) {
      const PiperNode& node = problem_.nodes[static_cast<std::size_t>(ready.back())];
      ready.pop_back();
      ++done;
      for (const int e : node.edges_out) {
        const int target = problem_.edges[static_cast<std::size_t>(e)].target;
        if (--open[static_cast<std::size_t>(target)] == 0) {
          ready.push_back(target);
        }
      }
    }
    if (done < open.size()) {
      for (std::size_t v = 0; v < open.size(); ++v) {
        if (open[v] > 0) {
          throw file_.at("edges").error(
              fmt::format("the graph has a cycle, near node {}", problem_.nodes[v].id));
        }
      }
    }
  }

  const JsonValue& file_;
  PiperProblem problem_;
  std::map<int, int> index_of_;
};

}  // namespace

PiperProblem piper_problem_from_json(const JsonValue& file) { return PiperReader(file).read(); }

PiperProblem read_piper_problem(const std::filesystem::path& path) {
  return piper_problem_from_json(read_json_file(path));
}

}  // namespace shardwise
