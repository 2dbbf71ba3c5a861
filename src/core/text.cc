#include "core/text.h"

#include <algorithm>

namespace shardwise {

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  while (true) {
    const std::size_t end = text.find(separator, begin);
    parts.emplace_back(text.substr(begin, end - begin));
    if (end == std::string_view::npos) {
      return parts;
    }
    begin = end + 1;
  }
}

std::string_view trim(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) {
    return text.substr(0, 0);
  }
  return text.substr(begin, text.find_last_not_of(kBlank) - begin + 1);
}

std::string join(std::span<const std::string> parts, std::string_view separator) {
  std::string joined;
  for (const std::string& part : parts) {
    if (&part != parts.data()) {
      joined += separator;
    }
    joined += part;
  }
  return joined;
}

std::string to_lower(std::string_view text) {
  std::string lower(text);
  for (char& letter : lower) {
    if (letter >= 'A' && letter <= 'Z') {
      letter = static_cast<char>(letter - 'A' + 'a');
    }
  }
  return lower;
}

int edit_distance(std::string_view a, std::string_view b) {
  // Rows of the usual table: row[j] is the distance between the first i characters of a and the
  // first j of b; a swap looks two rows back.
  std::vector<int> two_back(b.size() + 1);
  std::vector<int> last(b.size() + 1);
  std::vector<int> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) {
    row[j] = static_cast<int>(j);
  }
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::swap(two_back, last);
    std::swap(last, row);
    row[0] = static_cast<int>(i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const int replaced = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, replaced});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], two_back[j - 2] + 1);
      }
    }
  }
  return row[b.size()];
}

std::optional<std::string> closest_match(std::string_view text,
                                         std::span<const std::string> candidates) {
  const std::string wanted = to_lower(text);
  std::optional<std::string> best;
  int best_distance = 0;
  for (const std::string& candidate : candidates) {
    const int longer = static_cast<int>(std::max(text.size(), candidate.size()));
    const int distance = edit_distance(wanted, to_lower(candidate));
    const bool is_close = distance < longer && 3 * distance <= std::max(longer, 3);
    if (is_close && (!best || distance < best_distance)) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

std::string suggest(std::string_view text, std::span<const std::string> candidates) {
  if (const std::optional<std::string> match = closest_match(text, candidates)) {
    return "; did you mean '" + *match + "'?";
  }
  if (candidates.empty()) {
    return "";
  }
  constexpr std::size_t kShown = 10;
  const std::size_t shown = std::min(candidates.size(), kShown);
  return "; known: " + join(candidates.first(shown), ", ") +
         (shown < candidates.size() ? ", ..." : "");
}

}  // namespace shardwise
