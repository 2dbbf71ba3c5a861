#include "io/gpu_topology.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <sstream>

#include "core/errors.h"
#include "core/text.h"
#include "cost/link_rings.h"
#include "files/json.h"
#include "files/read_file.h"

namespace shardwise {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

constexpr int kMostParts = 256;
constexpr int kMostLinks = 1024;
constexpr std::size_t kMostRingDevices = 8;

struct NamedPath {
  const char* name;
  GpuPath path;
};
constexpr NamedPath kPaths[] = {{"X", GpuPath::kSelf},
                                {"PIX", GpuPath::kPix},
                                {"PXB", GpuPath::kPxb},
                                {"PHB", GpuPath::kPhb},
                                {"NODE", GpuPath::kNode},
                                {"SYS", GpuPath::kSystem}};

// Columns are separated by blanks or tabs and their tail is ragged.
std::vector<std::string> words_of(const std::string& line) {
  std::istringstream stream(line);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) {
    words.push_back(word);
  }
  return words;
}

// "GPU7" or "NIC0" (older drivers name cards: "mlx5_0").
bool is_numbered(const std::string& word, const std::string& stem) {
  return word.size() > stem.size() && word.starts_with(stem) &&
         std::all_of(word.begin() + static_cast<std::ptrdiff_t>(stem.size()),
                     word.end(),
                     [](char c) { return c >= '0' && c <= '9'; });
}
bool is_card(const std::string& word) {
  return is_numbered(word, "NIC") || word.starts_with("mlx");
}

GpuTopology::Cell read_cell(const std::string& word, const std::string& where) {
  for (const NamedPath& known : kPaths) {
    if (word == known.name) {
      return {known.path, 0};
    }
  }
  int links = 0;
  const char* end = word.data() + word.size();
  if (word.starts_with("NV") && word.size() > 2) {
    const auto [stop, error] = std::from_chars(word.data() + 2, end, links);
    if (error == std::errc() && stop == end && links > 0 && links <= kMostLinks) {
      return {GpuPath::kLinks, links};
    }
  }
  throw InputError(where,
                   fmt::format("expected X, NV#, PIX, PXB, PHB, NODE or SYS, found \"{}\"{}",
                               shown_in_message(word),
                               word == "XGMI" || word == "0"
                                   ? "; this is rocm-smi's table, which has no numbers of links: "
                                     "state 'bandwidth' instead"
                                   : ""));
}

void check_symmetric(const GpuTopology& topology,
                     const std::vector<std::string>& names,
                     const std::string& where) {
  for (std::size_t i = 0; i < names.size(); ++i) {
    for (std::size_t j = 0; j < names.size(); ++j) {
      const GpuTopology::Cell& cell = topology.cells[i][j];
      if (cell != topology.cells[j][i] || (cell.path == GpuPath::kSelf) != (i == j)) {
        throw InputError(where,
                         fmt::format("expected the same way from {} to {} and back, and X only "
                                     "from a device to itself",
                                     names[i],
                                     names[j]));
      }
    }
  }
}

}  // namespace

GpuTopology parse_gpu_topology(const std::string& text, const std::string& file_name) {
  GpuTopology topology;
  std::vector<std::string> names;
  int line_number = 0;
  for (const std::string& line : split(text, '\n')) {
    ++line_number;
    const std::string where = fmt::format("{}:{}", file_name, line_number);
    const std::vector<std::string> words = words_of(line);
    if (names.empty()) {
      for (const std::string& word : words) {
        if (!is_numbered(word, "GPU") && !is_card(word)) {
          break;
        }
        names.push_back(word);
        ++(is_card(word) ? topology.cards : topology.devices);
      }
      if (names.size() == 1 || names.size() > kMostParts) {
        throw InputError(where,
                         fmt::format("expected a header with 2 to {} devices and cards, found {}",
                                     kMostParts,
                                     names.size()));
      }
    } else if (topology.cells.size() < names.size()) {
      if (words.empty() || words[0] != names[topology.cells.size()]) {
        throw InputError(where,
                         fmt::format("expected the row of {}, found \"{}\"; the matrix is cut off",
                                     names[topology.cells.size()],
                                     words.empty() ? "" : shown_in_message(words[0])));
      }
      if (words.size() < names.size() + 1) {
        throw InputError(where,
                         fmt::format("expected {} cells, found {}: the line is cut off",
                                     names.size(),
                                     words.size() - 1));
      }
      std::vector<GpuTopology::Cell> row;
      for (std::size_t column = 1; column <= names.size(); ++column) {
        row.push_back(read_cell(words[column], where));
      }
      topology.cells.push_back(std::move(row));
    }
  }
  const std::string end = fmt::format("{}:{}", file_name, line_number);
  if (topology.devices == 0) {
    throw InputError(end, "expected the matrix of nvidia-smi topo -m (\"GPU0 GPU1 ...\")");
  }
  if (topology.cells.size() < names.size()) {
    throw InputError(end,
                     fmt::format("expected {} rows, found {}: the matrix is cut off",
                                 names.size(),
                                 topology.cells.size()));
  }
  check_symmetric(topology, names, end);
  return topology;
}

GpuTopology read_gpu_topology(const std::filesystem::path& path) {
  return parse_gpu_topology(read_file(path), path.string());
}

NetworkLevel node_level(const GpuTopology& topology,
                        BytesPerSecond link,
                        BytesPerSecond bus,
                        const std::string& where) {
  NetworkLevel level;
  level.size = topology.devices;
  LinkCounts links(at(topology.devices), std::vector<int>(at(topology.devices), 0));
  bool all_alike = true;
  for (int i = 0; i < topology.devices; ++i) {
    for (int j = 0; j < topology.devices; ++j) {
      links[at(i)][at(j)] = topology.cells[at(i)][at(j)].links;
      all_alike = all_alike && (i == j || links[at(i)][at(j)] == topology.cells[0].at(1).links);
    }
  }
  if (topology.devices < 2 || all_alike) {
    const int count = topology.devices < 2 ? 0 : links[0][1];
    level.bandwidth = count > 0 ? BytesPerSecond(count * link.count) : bus;
    return level;
  }
  if (links.size() > kMostRingDevices) {
    throw InputError(where,
                     fmt::format("expected at most {} devices that are not all joined alike, found "
                                 "{}; state 'bandwidth' instead of 'topology'",
                                 kMostRingDevices,
                                 links.size()));
  }
  level.ring_bandwidth.resize(links.size() + 1);
  const std::vector<double> rings = ring_links(links);
  for (std::size_t k = 2; k < rings.size(); ++k) {
    level.ring_bandwidth[k] = std::max(bus, BytesPerSecond(rings[k] * link.count));
  }
  level.bandwidth = level.ring_bandwidth.back();
  return level;
}

}  // namespace shardwise
