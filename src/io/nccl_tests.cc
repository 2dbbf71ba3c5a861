#include "io/nccl_tests.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <map>
#include <set>
#include <string_view>

#include "core/errors.h"
#include "core/text.h"
#include "files/json.h"

namespace shardwise {

namespace {

constexpr int kMostRanks = 1 << 20;
constexpr std::int64_t kLargestSize = std::int64_t{1} << 50;
constexpr double kLongestTime = 1e12;  // us

struct NamedKind {
  const char* name;
  CollectiveKind kind;
};
constexpr NamedKind kKinds[] = {
    {"all_reduce", CollectiveKind::kAllReduce},
    {"all_gather", CollectiveKind::kAllGather},
    {"reduce_scatter", CollectiveKind::kReduceScatter},
    {"alltoall", CollectiveKind::kAllToAll},
    {"all_to_all", CollectiveKind::kAllToAll},
};

std::vector<std::string> words_of(std::string_view line) {
  std::vector<std::string> words;
  std::string word;
  for (const char c : line) {
    if (c == ' ' || c == '\t' || c == '\r') {
      if (!word.empty()) {
        words.push_back(std::move(word));
        word.clear();
      }
    } else {
      word.push_back(c);
    }
  }
  if (!word.empty()) {
    words.push_back(std::move(word));
  }
  return words;
}

template <typename Number>
std::optional<Number> number_in(const std::string& text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(value)
                                                                  : std::nullopt;
}

// The name of a test anywhere in a line: "/opt/build/all_reduce_perf", "all_reduce_perf_mpi".
std::optional<std::string> test_in(std::string_view line) {
  const std::size_t end = line.find("_perf");
  if (end == std::string_view::npos) {
    return std::nullopt;
  }
  std::size_t begin = end;
  while (begin > 0 && (std::isalpha(static_cast<unsigned char>(line[begin - 1])) != 0 ||
                       line[begin - 1] == '_')) {
    --begin;
  }
  return std::string(line.substr(begin, end - begin));
}

// Both forms of the output end here: ranks, hosts and rows, checked as one.
class BenchmarkReader {
 public:
  BenchmarkReader(std::string file, std::optional<CollectiveKind> kind)
      : file_(std::move(file)), kind_(kind) {}

  CollectiveBenchmark from_text(const std::string& text);
  CollectiveBenchmark from_json(const JsonValue& document);

 private:
  std::string at(int line) const { return fmt::format("{}:{}", file_, line); }

  void add_name(const std::string& name, const std::string& where);
  void add_rank(std::int64_t rank, const std::string& host, const std::string& where);
  void add_row(std::int64_t size, double microseconds, const std::string& where);
  void read_row(const std::vector<std::string>& words, const std::string& where);
  CollectiveBenchmark finish(const std::string& where);

  const std::string file_;
  std::optional<CollectiveKind> kind_;
  std::optional<std::string> unknown_test_;
  std::set<std::int64_t> ranks_;
  std::set<std::string> hosts_;
  std::map<std::int64_t, double> rows_;  // us by size
};

void BenchmarkReader::add_name(const std::string& name, const std::string& where) {
  const std::optional<CollectiveKind> found = find_collective(name);
  if (!found) {
    unknown_test_ = name;
    return;
  }
  if (kind_ && *kind_ != *found) {
    throw InputError(where,
                     fmt::format("expected one collective, found {} after {}; give each log a file "
                                 "of its own, or correct 'collective'",
                                 name,
                                 to_string(*kind_)));
  }
  kind_ = found;
}

void BenchmarkReader::add_rank(std::int64_t rank,
                               const std::string& host,
                               const std::string& where) {
  if (rank < 0 || rank >= kMostRanks) {
    throw InputError(where, fmt::format("expected a rank below {}, found {}", kMostRanks, rank));
  }
  if (!rows_.empty() || !ranks_.insert(rank).second) {
    throw InputError(where,
                     fmt::format("expected one table, found rank {} again; give each log a file of "
                                 "its own",
                                 rank));
  }
  hosts_.insert(host);
}

void BenchmarkReader::add_row(std::int64_t size, double microseconds, const std::string& where) {
  if (size < 0 || size > kLargestSize) {
    throw InputError(where, fmt::format("expected a size in bytes, found {}", size));
  }
  if (!std::isfinite(microseconds) || microseconds <= 0 || microseconds > kLongestTime) {
    throw InputError(where, fmt::format("expected a positive time in us, found {}", microseconds));
  }
  if (size == 0) {
    return;  // rounded away: nothing was sent
  }
  if (!rows_.emplace(size, microseconds).second) {
    throw InputError(where,
                     fmt::format("expected each size once, found {} B again; give each log a file "
                                 "of its own",
                                 size));
  }
}

// size count type redop root | time algbw busbw #wrong | time algbw busbw #wrong
void BenchmarkReader::read_row(const std::vector<std::string>& words, const std::string& where) {
  constexpr std::size_t kColumns = 13;
  constexpr std::size_t kTime = 5;
  if (words.size() < kColumns) {
    throw InputError(
        where,
        fmt::format(
            "expected a row of {} columns, found {}: the line is cut off", kColumns, words.size()));
  }
  const auto size = number_in<std::int64_t>(words[0]);
  const auto time = number_in<double>(words[kTime]);
  const auto bandwidth = number_in<double>(words[kTime + 1]);
  if (!size || !time || !bandwidth) {
    throw InputError(where,
                     fmt::format("expected size, time and bandwidth, found \"{}\", \"{}\", \"{}\"",
                                 shown_in_message(words[0]),
                                 shown_in_message(words[kTime]),
                                 shown_in_message(words[kTime + 1])));
  }
  add_row(*size, *time, where);
  // The program prints size / time beside them, in GB/s with two decimals.
  const double expected = static_cast<double>(*size) / *time / 1e3;
  if (!(std::abs(*bandwidth - expected) <= 0.011 + 0.02 * expected)) {
    throw InputError(where,
                     fmt::format("expected a bandwidth of {:.2f} GB/s from {} B in {} us, found "
                                 "{}: the line is damaged, or no table of nccl-tests",
                                 expected,
                                 *size,
                                 *time,
                                 *bandwidth));
  }
  if (const auto wrong = number_in<double>(words[kTime + 3]); wrong && *wrong > 0) {
    throw InputError(where, fmt::format("expected no wrong results, found {}", *wrong));
  }
}

CollectiveBenchmark BenchmarkReader::from_text(const std::string& text) {
  int number = 0;
  for (const std::string& raw : split(text, '\n')) {
    ++number;
    std::string_view line = trim(raw);
    // mpirun --tag-output, srun --label
    if (const std::size_t tag = line.find("<stdout>:"); tag != std::string_view::npos) {
      line = trim(line.substr(tag + 9));
    }
    const std::vector<std::string> words = words_of(line);
    if (words.empty()) {
      continue;
    }
    if (const auto name = test_in(line)) {
      add_name(*name, at(number));
    } else if (words.size() > 8 && words[0] == "#" && words[1] == "Rank") {
      const auto rank = number_in<std::int64_t>(words[2]);
      const auto on = std::find(words.begin(), words.end(), "on");
      if (!rank || on == words.end() || on + 1 == words.end()) {
        throw InputError(at(number), "expected \"#  Rank 0 ... on HOST device 0\"");
      }
      add_rank(*rank, *(on + 1), at(number));
    } else if (words.size() > 1 && number_in<std::int64_t>(words[0]) &&
               number_in<std::int64_t>(words[1])) {
      read_row(words, at(number));
    }
  }
  return finish(at(number));
}

CollectiveBenchmark BenchmarkReader::from_json(const JsonValue& document) {
  for (const JsonValue& argument : document.at("args").items()) {
    if (const auto name = argument.is_string() ? test_in(argument.as_string()) : std::nullopt) {
      add_name(*name, argument.where());
    }
  }
  for (const JsonValue& device : document.at("config").at("devices").items()) {
    add_rank(device.at("rank").as_int64(0, kMostRanks),
             device.at("hostname").as_string(),
             device.where());
  }
  for (const JsonValue& row : document.at("results").items()) {
    const auto place = [&](const char* key) {
      const std::optional<JsonValue> found = row.find(key);
      return found && found->is_object() ? found : std::nullopt;
    };
    const std::optional<JsonValue> out = place("out_of_place");
    const std::optional<JsonValue> used = out ? out : place("in_place");
    if (!used) {
      throw row.unexpected("key 'out_of_place' or 'in_place'");
    }
    if (!used->find("time")) {
      throw used->unexpected("key 'time'", "times of the host (-C) say nothing of the collective");
    }
    add_row(row.at("size").as_int64(0, kLargestSize),
            used->at("time").as_double(0, kLongestTime),
            used->where());
    if (const auto wrong = used->find("nwrong");
        wrong && wrong->is_number() && wrong->as_double() > 0) {
      throw wrong->unexpected("no wrong results");
    }
  }
  return finish(file_);
}

CollectiveBenchmark BenchmarkReader::finish(const std::string& where) {
  if (ranks_.size() < 2) {
    throw InputError(
        where,
        fmt::format("expected a list of at least two ranks (\"#  Rank  0 ...\"), found "
                    "{}; keep the head of the log",
                    ranks_.size()));
  }
  if (const auto count = static_cast<std::int64_t>(ranks_.size()); *ranks_.rbegin() != count - 1) {
    throw InputError(where,
                     fmt::format("expected ranks 0 to {}, found {} of them: the list is cut off",
                                 *ranks_.rbegin(),
                                 count));
  }
  if (rows_.empty()) {
    throw InputError(where,
                     "expected rows of sizes and times, found none: the log is cut off, or the run "
                     "failed");
  }
  if (!kind_) {
    throw InputError(where,
                     unknown_test_
                         ? fmt::format("plans use no such collective as \"{}\"",
                                       shown_in_message(*unknown_test_))
                         : "nothing names the collective; say which (all_reduce, all_gather, "
                           "reduce_scatter or all_to_all)");
  }
  CollectiveBenchmark benchmark;
  benchmark.kind = *kind_;
  benchmark.ranks = static_cast<int>(ranks_.size());
  benchmark.nodes = static_cast<int>(hosts_.size());
  for (const auto& [size, microseconds] : rows_) {
    const std::int64_t passes = *kind_ == CollectiveKind::kAllReduce ? 2 : 1;
    benchmark.rows.push_back({Bytes(passes * size), Seconds(microseconds * 1e-6)});
  }
  return benchmark;
}

}  // namespace

std::optional<CollectiveKind> find_collective(const std::string& name) {
  std::string stem = name;
  if (const std::size_t end = stem.find("_perf"); end != std::string::npos) {
    stem.resize(end);
  }
  for (const NamedKind& known : kKinds) {
    if (stem == known.name) {
      return known.kind;
    }
  }
  return std::nullopt;
}

CollectiveBenchmark parse_nccl_tests(const std::string& text,
                                     const std::string& file_name,
                                     std::optional<CollectiveKind> kind) {
  BenchmarkReader reader(file_name, kind);
  return trim(text).starts_with("{") ? reader.from_json(parse_json(text, file_name))
                                     : reader.from_text(text);
}

CollectiveBenchmark read_nccl_tests(const std::filesystem::path& path,
                                    std::optional<CollectiveKind> kind) {
  return parse_nccl_tests(read_file(path), path.string(), kind);
}

std::vector<MeasuredCollective> measured_collectives(const CollectiveBenchmark& benchmark,
                                                     int level,
                                                     const std::string& where) {
  // A level 0 of several hosts is one node here (NVL72).
  const int nodes = level == 0 ? 1 : benchmark.nodes;
  if (benchmark.ranks % nodes != 0) {
    throw InputError(
        where,
        fmt::format(
            "expected ranks spread evenly over nodes, found {} on {}", benchmark.ranks, nodes));
  }
  std::vector<MeasuredCollective> rows;
  for (const CollectiveBenchmark::Row& row : benchmark.rows) {
    rows.push_back(
        {benchmark.kind, level, benchmark.ranks, benchmark.ranks / nodes, row.payload, row.time});
  }
  return rows;
}

}  // namespace shardwise
