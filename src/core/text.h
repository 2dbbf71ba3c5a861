// Small text helpers, mostly for error messages: split, trim, join, and the nearest known name.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shardwise {

// The parts of `text` between separators, empty ones included: split(",a", ',') = {"", "a"};
// the empty text has one empty part.
std::vector<std::string> split(std::string_view text, char separator);

// `text` without spaces, tabs, carriage returns and newlines at both ends. Views into `text`.
std::string_view trim(std::string_view text);

// The parts in order with `separator` between them.
std::string join(std::span<const std::string> parts, std::string_view separator);

// `text` with ASCII letters in lower case; other bytes stay.
std::string to_lower(std::string_view text);

// Least number of inserted, removed, replaced or swapped neighbouring characters that turns `a`
// into `b` (optimal string alignment distance).
int edit_distance(std::string_view a, std::string_view b);

// The candidate that `text` is probably a misspelling of: least edit distance, letter case ignored,
// at most a third of the longer text and never the whole of it; ties go to the earlier candidate.
std::optional<std::string> closest_match(std::string_view text,
                                         std::span<const std::string> candidates);

// Remedy for an unknown name, to end an error message with: "; did you mean 'tensor'?" when
// closest_match() finds one, else "; known: a, b, c" (no more than ten, sorted as given).
std::string suggest(std::string_view text, std::span<const std::string> candidates);

}  // namespace shardwise
