#include "io/slurm_topology.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <set>
#include <sstream>

#include "core/errors.h"
#include "core/text.h"
#include "files/json.h"
#include "files/read_file.h"

namespace shardwise {

namespace {

constexpr std::size_t kMostNames = 1 << 16;
constexpr int kMostHeight = 16;

struct Part {
  std::string where;
  std::vector<std::string> switches;  // either these
  std::vector<std::string> nodes;     // or those
};

std::optional<std::int64_t> number_in(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool is_whole = error == std::errc() && end == text.data() + text.size();
  return is_whole && value >= 0 ? std::optional(value) : std::nullopt;
}

// Parts at commas outside of brackets.
std::vector<std::string> split_outside(const std::string& text, const std::string& where) {
  std::vector<std::string> parts(1);
  int depth = 0;
  for (const char c : text) {
    depth += c == '[' ? 1 : c == ']' ? -1 : 0;
    if (depth < 0 || depth > 1) {
      break;
    }
    if (c == ',' && depth == 0) {
      parts.emplace_back();
    } else {
      parts.back().push_back(c);
    }
  }
  if (depth != 0) {
    throw InputError(where,
                     fmt::format("expected pairs of brackets as in \"n[0-3,7]\", found \"{}\"",
                                 shown_in_message(text)));
  }
  return parts;
}

// "07-12" -> "07", ..., "12"
std::vector<std::string> expand_range(const std::string& range, const std::string& where) {
  const std::vector<std::string> ends = split(range, '-');
  const std::optional<std::int64_t> first = number_in(ends.front());
  const std::optional<std::int64_t> last = number_in(ends.back());
  if (ends.size() > 2 || !first || !last || *last < *first ||
      *last - *first >= static_cast<std::int64_t>(kMostNames)) {
    throw InputError(where,
                     fmt::format("expected a range such as \"0-15\" of at most {} names, found "
                                 "\"{}\"",
                                 kMostNames,
                                 shown_in_message(range)));
  }
  std::vector<std::string> names;
  // Counted from zero: `last` may be the largest number there is.
  for (std::int64_t i = 0; i <= *last - *first; ++i) {
    names.push_back(fmt::format("{:0{}}", *first + i, ends.front().size()));
  }
  return names;
}

class TreeReader {
 public:
  explicit TreeReader(std::string file) : file_(std::move(file)) {}

  SwitchTree read(const std::string& text);

 private:
  void add_line(const std::string& line, const std::string& where);
  void add(const std::string& name, Part part);
  std::string root() const;
  int visit(const std::string& name, int height_left);
  void require_uniform(std::size_t height, std::size_t parts, const Part& part);

  const std::string file_;
  std::map<std::string, Part> parts_;
  std::vector<std::string> order_;  // of the file
  bool has_blocks_ = false;
  std::set<std::string> seen_;
  SwitchTree tree_;
};

void TreeReader::add(const std::string& name, Part part) {
  const std::string where = part.where;
  if (!parts_.emplace(name, std::move(part)).second) {
    throw InputError(where, fmt::format("expected each switch once, found {} again", name));
  }
  order_.push_back(name);
}

void TreeReader::add_line(const std::string& line, const std::string& where) {
  std::istringstream stream(line.substr(0, line.find('#')));
  std::vector<std::string> names;
  Part part{where, {}, {}};
  for (std::string word; stream >> word;) {
    const std::size_t equals = word.find('=');
    const std::string key = to_lower(word.substr(0, equals));
    const std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
    if (key == "switchname" || key == "blockname") {
      names = expand_hostlist(value, where);
      has_blocks_ = has_blocks_ || key == "blockname";
    } else if (key == "nodes") {
      part.nodes = expand_hostlist(value, where);
    } else if (key == "switches") {
      part.switches = expand_hostlist(value, where);
    } else if (key != "linkspeed" && key != "blocksizes") {
      throw InputError(where,
                       fmt::format("expected SwitchName, BlockName, Nodes, Switches, LinkSpeed or "
                                   "BlockSizes, found \"{}\"",
                                   shown_in_message(word)));
    }
  }
  if (names.empty()) {
    if (!part.nodes.empty() || !part.switches.empty()) {
      throw InputError(where, "expected SwitchName or BlockName on the line, found neither");
    }
    return;
  }
  if (names.size() != 1 || part.nodes.empty() == part.switches.empty()) {
    throw InputError(where,
                     fmt::format("expected one switch with either Nodes or Switches, found {} "
                                 "switches with {} nodes and {} switches",
                                 names.size(),
                                 part.nodes.size(),
                                 part.switches.size()));
  }
  add(names.front(), std::move(part));
}

// The switch that is no part of another. Blocks have none above them: one is made up.
std::string TreeReader::root() const {
  std::set<std::string> below;
  for (const auto& [name, part] : parts_) {
    below.insert(part.switches.begin(), part.switches.end());
  }
  std::vector<std::string> roots;
  for (const std::string& name : order_) {
    if (!below.contains(name)) {
      roots.push_back(name);
    }
  }
  if (roots.size() != 1) {
    throw InputError(
        file_,
        fmt::format("expected one switch above all others, found {}{}; name the one "
                    "that joins them",
                    roots.size(),
                    roots.empty() ? " (they form a circle)" : ": " + join(roots, ", ")));
  }
  return roots.front();
}

void TreeReader::require_uniform(std::size_t height, std::size_t parts, const Part& part) {
  if (tree_.fan_out.size() <= height) {
    tree_.fan_out.resize(height + 1, 0);
  }
  if (tree_.fan_out[height] == 0) {
    tree_.fan_out[height] = static_cast<int>(parts);
  }
  if (tree_.fan_out[height] != static_cast<int>(parts)) {
    throw InputError(part.where,
                     fmt::format("expected {} parts as in other switches of this height, found {}; "
                                 "levels of a cluster are uniform: keep the nodes of one job",
                                 tree_.fan_out[height],
                                 parts));
  }
}

// Height of the switch: leaves 0.
int TreeReader::visit(const std::string& name, int height_left) {
  const auto found = parts_.find(name);
  if (found == parts_.end()) {
    throw InputError(file_, fmt::format("expected a line SwitchName={}, found none", name));
  }
  const Part& part = found->second;
  if (height_left == 0) {
    throw InputError(part.where,
                     fmt::format("expected at most {} levels of switches", kMostHeight));
  }
  if (!seen_.insert("switch " + name).second) {
    throw InputError(part.where, fmt::format("expected {} below one switch, found two", name));
  }
  if (!part.nodes.empty()) {
    for (const std::string& node : part.nodes) {
      if (!seen_.insert("node " + node).second) {
        throw InputError(part.where, fmt::format("expected node {} once, found it again", node));
      }
      tree_.nodes.push_back(node);
    }
    require_uniform(0, part.nodes.size(), part);
    return 0;
  }
  std::optional<int> below;
  for (const std::string& child : part.switches) {
    const int height = visit(child, height_left - 1);
    if (below && *below != height) {
      throw InputError(part.where, "expected switches of one height below it, found several");
    }
    below = height;
  }
  require_uniform(static_cast<std::size_t>(*below) + 1, part.switches.size(), part);
  return *below + 1;
}

SwitchTree TreeReader::read(const std::string& text) {
  int number = 0;
  for (const std::string& line : split(text, '\n')) {
    ++number;
    add_line(line, fmt::format("{}:{}", file_, number));
  }
  if (parts_.empty()) {
    throw InputError(file_, "expected lines such as \"SwitchName=s0 Nodes=n[0-3]\", found none");
  }
  if (has_blocks_) {
    parts_["all blocks"] = {file_, order_, {}};
    order_.emplace_back("all blocks");
  }
  visit(root(), kMostHeight);
  for (const auto& [name, part] : parts_) {
    if (!seen_.contains("switch " + name)) {
      throw InputError(part.where, fmt::format("expected {} below the root, found it apart", name));
    }
  }
  return tree_;
}

}  // namespace

std::vector<std::string> expand_hostlist(const std::string& expression, const std::string& where) {
  std::vector<std::string> all;
  for (const std::string& part : split_outside(expression, where)) {
    const std::size_t open = part.find('[');
    const std::size_t close = part.find(']');
    if (part.empty() || (close != std::string::npos && part.find('[', close) != part.npos)) {
      throw InputError(where,
                       fmt::format("expected names such as \"n[0-3,7],login\", found \"{}\"",
                                   shown_in_message(expression)));
    }
    if (open == std::string::npos) {
      all.push_back(part);
    } else {
      for (const std::string& range : split(part.substr(open + 1, close - open - 1), ',')) {
        for (const std::string& number : expand_range(range, where)) {
          all.push_back(part.substr(0, open) + number + part.substr(close + 1));
        }
        if (all.size() > kMostNames) {
          break;
        }
      }
    }
    if (all.size() > kMostNames) {
      throw InputError(where, fmt::format("expected at most {} names", kMostNames));
    }
  }
  return all;
}

SwitchTree parse_slurm_topology(const std::string& text, const std::string& file_name) {
  return TreeReader(file_name).read(text);
}

SwitchTree read_slurm_topology(const std::filesystem::path& path) {
  return parse_slurm_topology(read_file(path), path.string());
}

}  // namespace shardwise
