#include "report/table.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/errors.h"

namespace shardwise {

TextTable::TextTable(std::vector<std::string> header) { rows_.push_back(std::move(header)); }

void TextTable::add_row(std::vector<std::string> cells) {
  SHARDWISE_CHECK(cells.size() == rows_[0].size(), "a row has as many cells as the header");
  rows_.push_back(std::move(cells));
}

void TextTable::add_rule() { rows_.emplace_back(); }

std::string TextTable::to_string(int indent) const {
  std::vector<std::size_t> widths(rows_[0].size(), 0);
  std::size_t total = 0;
  for (const std::vector<std::string>& row : rows_) {
    for (std::size_t c = 0; c < row.size(); ++c) {
      widths[c] = std::max(widths[c], row[c].size());
    }
  }
  for (const std::size_t width : widths) {
    total += width + 2;
  }
  std::string text;
  for (const std::vector<std::string>& row : rows_) {
    std::string line(static_cast<std::size_t>(indent), ' ');
    if (row.empty()) {
      line += std::string(total - 2, '-');
    }
    for (std::size_t c = 0; c < row.size(); ++c) {
      const std::string blanks(widths[c] - row[c].size(), ' ');
      line += c == 0 ? row[c] + blanks : "  " + blanks + row[c];
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::string bar(double share, int width) {
  const int filled = std::clamp(static_cast<int>(std::lround(share * width)), 0, width);
  return std::string(static_cast<std::size_t>(filled), '#') +
         std::string(static_cast<std::size_t>(width - filled), '.');
}

}  // namespace shardwise
