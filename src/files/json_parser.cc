#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <utility>

#include "files/json_document.h"

namespace shardwise {

namespace {

// How far the parser has read.
struct Cursor {
  std::int32_t line = 1;
  char last = '\0';

  // Line of the token just read. Only after a number is the character read last not the token's
  // own, and only that character can be a newline.
  std::int32_t token_line() const { return last == '\n' ? line - 1 : line; }
};

// Input iterator that keeps a Cursor up to date: nlohmann's SAX events carry no position.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* place, Cursor* cursor) : place_(place), cursor_(cursor) {}
  const char& operator*() const { return *place_; }
  CountingIterator& operator++() {
    cursor_->last = *place_;
    cursor_->line += *place_ == '\n' ? 1 : 0;
    ++place_;
    return *this;
  }
  bool operator==(const CountingIterator& other) const { return place_ == other.place_; }
  bool operator!=(const CountingIterator& other) const { return place_ != other.place_; }

 private:
  const char* place_;
  Cursor* cursor_;
};

std::string syntax_remedy(std::string_view message) {
  const auto contains = [&](std::string_view part) {
    return message.find(part) != std::string_view::npos;
  };
  if (contains("unexpected '}'; expected string literal") ||
      contains("unexpected ']'; expected '['")) {
    return "; remove the comma before it";
  }
  if (message.ends_with("/'") || message.ends_with("#'")) {
    return "; JSON has no comments";
  }
  if (message.ends_with("N'") || message.ends_with("I'")) {
    return "; JSON has no NaN or Infinity";
  }
  return "";
}

// nlohmann's message without its own prefix and its position, which counts bytes.
std::string syntax_message(std::string_view message) {
  for (const std::string_view end_of_prefix : {"] ", "column ", ": "}) {
    const std::size_t place = message.find(end_of_prefix);
    if (place != std::string_view::npos) {
      message.remove_prefix(end_of_prefix == "column " ? place : place + end_of_prefix.size());
    }
  }
  constexpr std::size_t kLongest = 160;
  return message.size() <= kLongest ? std::string(message)
                                    : std::string(message.substr(0, kLongest)) + "...";
}

// Receives the parser's events and appends to the document. The names are nlohmann's.
class TreeBuilder {
 public:
  TreeBuilder(JsonDocument* document, const Cursor* cursor)
      : document_(document), cursor_(cursor) {}

  bool null() {
    add(JsonKind::kNull);
    return true;
  }
  bool boolean(bool value) {
    add(JsonKind::kBool).integer = value ? 1 : 0;
    return true;
  }
  bool number_integer(std::int64_t value) {
    add(JsonKind::kInteger).integer = value;
    return true;
  }
  bool number_unsigned(std::uint64_t value) {
    if (std::in_range<std::int64_t>(value)) {
      return number_integer(static_cast<std::int64_t>(value));
    }
    return number_float(static_cast<double>(value), "");
  }
  bool number_float(double value, const std::string& /*text*/) {
    add(JsonKind::kDouble).real = value;
    return true;
  }
  bool string(std::string& value) {
    const std::int32_t text = keep(std::move(value));
    add(JsonKind::kString).text = text;
    return true;
  }
  bool binary(std::vector<std::uint8_t>& /*value*/) { return false; }  // not in text
  bool start_object(std::size_t /*size*/) { return open(JsonKind::kObject); }
  bool end_object() { return close(); }
  bool start_array(std::size_t /*size*/) { return open(JsonKind::kArray); }
  bool end_array() { return close(); }

  bool key(std::string& value) {
    pending_key_ = keep(std::move(value));
    pending_line_ = cursor_->token_line();
    const std::string_view name = document_->string(pending_key_);
    if (!open_.back().keys.insert(name).second) {
      throw InputError(place(),
                       fmt::format("expected each key once in an object, found key '{}' a second "
                                   "time; remove one",
                                   shown_in_message(name)));
    }
    return true;
  }

  bool parse_error(std::size_t /*position*/,
                   const std::string& /*token*/,
                   const nlohmann::json::exception& error) {
    const std::string message = syntax_message(error.what());
    throw InputError(place(),
                     fmt::format("expected valid JSON, found a {}{}",
                                 shown_in_message(message),
                                 syntax_remedy(message)));
  }

 private:
  struct OpenContainer {
    std::int32_t node;
    std::int32_t last_child = kNoJsonIndex;
    std::unordered_set<std::string_view> keys;  // only asked, never iterated
  };

  std::string place() const {
    return fmt::format("{}:{}", document_->file_name, cursor_->token_line());
  }

  std::int32_t keep(std::string&& text) {
    document_->strings.push_back(std::move(text));
    return static_cast<std::int32_t>(document_->strings.size()) - 1;
  }

  JsonNode& add(JsonKind kind) {
    const auto index = static_cast<std::int32_t>(document_->nodes.size());
    JsonNode node;
    node.kind = kind;
    node.line = pending_key_ == kNoJsonIndex ? cursor_->token_line() : pending_line_;
    node.key = std::exchange(pending_key_, kNoJsonIndex);
    if (!open_.empty()) {
      OpenContainer& container = open_.back();
      JsonNode& parent = document_->nodes[static_cast<std::size_t>(container.node)];
      node.parent = container.node;
      node.position = parent.num_children++;
      if (container.last_child == kNoJsonIndex) {
        parent.first_child = index;
      } else {
        document_->nodes[static_cast<std::size_t>(container.last_child)].next_sibling = index;
      }
      container.last_child = index;
    }
    document_->nodes.push_back(node);
    return document_->nodes.back();
  }

  bool open(JsonKind kind) {
    if (open_.size() >= static_cast<std::size_t>(kMaxJsonDepth)) {
      throw InputError(
          place(),
          fmt::format("expected at most {} nested arrays and objects, found more", kMaxJsonDepth));
    }
    add(kind);
    open_.push_back({.node = static_cast<std::int32_t>(document_->nodes.size()) - 1, .keys = {}});
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  JsonDocument* document_;
  const Cursor* cursor_;
  std::vector<OpenContainer> open_;
  std::int32_t pending_key_ = kNoJsonIndex;
  std::int32_t pending_line_ = 0;
};

}  // namespace

JsonValue parse_json(std::string_view text, const std::string& file_name, Bytes limit) {
  // The second bound keeps every index of the tree within 32 bits.
  const std::int64_t most = std::min(limit.count, std::int64_t{1} << 30);
  if (std::cmp_greater(text.size(), most)) {
    throw InputError(file_name,
                     fmt::format("expected at most {} of JSON, found {}",
                                 format_bytes(Bytes(most)),
                                 format_bytes(Bytes(static_cast<std::int64_t>(text.size())))));
  }
  auto document = std::make_shared<JsonDocument>();
  document->file_name = file_name;
  Cursor cursor;
  TreeBuilder builder(document.get(), &cursor);
  const char* begin = text.data();
  const bool complete = nlohmann::json::sax_parse(
      CountingIterator(begin, &cursor), CountingIterator(begin + text.size(), &cursor), &builder);
  SHARDWISE_CHECK(complete && !document->nodes.empty(), "the JSON parser stopped without an error");
  return {std::move(document), 0};
}

}  // namespace shardwise
