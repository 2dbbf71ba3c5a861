// The table itself: RFC 4180 with a header.
#include <fmt/format.h>

#include <algorithm>

#include "core/errors.h"
#include "core/text.h"
#include "report/published_row.h"

namespace shardwise {

namespace {

const std::vector<std::string> kColumns = {
    "source",   "model", "params_b",    "layers", "hidden",      "heads",         "kv_heads",
    "ffn",      "vocab", "seq_len",     "gpu",    "n_gpus",      "gpus_per_node", "dp",
    "tp",       "pp",    "cp",          "ep",     "micro_batch", "global_batch",  "recompute",
    "schedule", "zero",  "iter_time_s", "note"};

// Fields of one record that begins at `position`; moves it behind the record and counts lines.
std::vector<std::string> next_record(const std::string& text,
                                     std::size_t& position,
                                     int& line,
                                     const std::string& file) {
  std::vector<std::string> fields(1);
  const int first_line = line;
  bool quoted = false;
  while (position < text.size()) {
    const char c = text[position++];
    if (c == '\n') {
      ++line;
    }
    if (quoted) {
      const bool doubled = c == '"' && position < text.size() && text[position] == '"';
      if (c != '"' || doubled) {
        fields.back().push_back(c);
        position += doubled ? 1 : 0;
      } else {
        quoted = false;
      }
    } else if (c == '"' && fields.back().empty()) {
      quoted = true;
    } else if (c == ',') {
      fields.emplace_back();
    } else if (c == '\n') {
      return fields;
    } else if (c != '\r') {
      fields.back().push_back(c);
    }
  }
  if (quoted) {
    throw InputError(fmt::format("{}:{}", file, first_line),
                     "expected a closing quote, found the end of the file");
  }
  return fields;
}

}  // namespace

const std::string& PublishedRow::at(const std::string& column) const {
  static const std::string kBlank;
  const auto found = values.find(column);
  return found == values.end() ? kBlank : found->second;
}

std::vector<PublishedRow> parse_published_rows(const std::string& text, const std::string& file) {
  std::size_t position = text.starts_with("\xef\xbb\xbf") ? 3 : 0;
  int line = 1;
  const std::vector<std::string> header = next_record(text, position, line, file);
  for (const std::string& column : kColumns) {
    if (std::find(header.begin(), header.end(), column) == header.end()) {
      throw InputError(fmt::format("{}:1", file),
                       fmt::format("expected a column '{}'{}", column, suggest(column, header)));
    }
  }
  std::vector<PublishedRow> rows;
  while (position < text.size()) {
    PublishedRow row;
    row.line = line;
    const std::vector<std::string> fields = next_record(text, position, line, file);
    if (fields.size() == 1 && trim(fields[0]).empty()) {
      continue;
    }
    if (fields.size() != header.size()) {
      throw InputError(fmt::format("{}:{}", file, row.line),
                       fmt::format("expected {} fields as in the header, found {}; quote fields "
                                   "that contain commas",
                                   header.size(),
                                   fields.size()));
    }
    for (std::size_t i = 0; i < fields.size(); ++i) {
      row.values[header[i]] = std::string(trim(fields[i]));
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace shardwise
