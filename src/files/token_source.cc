#include "files/token_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "core/errors.h"
#include "files/input_file.h"
#include "files/megatron_index.h"

namespace shardwise {

namespace {

namespace fs = std::filesystem;

// Calls visit(Number{}) with the C++ type of a token type.
template <typename Visit>
void with_number(TensorType type, Visit visit) {
  switch (type) {
    case TensorType::kUInt8:
      return visit(std::uint8_t{});
    case TensorType::kInt8:
      return visit(std::int8_t{});
    case TensorType::kInt16:
      return visit(std::int16_t{});
    case TensorType::kUInt16:
      return visit(std::uint16_t{});
    case TensorType::kInt32:
      return visit(std::int32_t{});
    case TensorType::kInt64:
      return visit(std::int64_t{});
    default:
      SHARDWISE_CHECK(false, "tokens of a type that is no integer");
  }
}

// One past the largest value, capped to what int64 holds.
std::int64_t bound_of(TensorType type) {
  std::int64_t bound = 0;
  with_number(type, [&](auto number) {
    constexpr auto kLargest = std::numeric_limits<decltype(number)>::max();
    bound = std::cmp_less(kLargest, std::numeric_limits<std::int64_t>::max())
                ? static_cast<std::int64_t>(kLargest) + 1
                : std::numeric_limits<std::int64_t>::max();
  });
  return bound;
}

// Reads numbers of a file and widens them, in pieces that stay in the cache.
void read_numbers(const InputFile& file,
                  TensorType type,
                  std::int64_t first,
                  std::span<std::int64_t> out) {
  with_number(type, [&](auto number) {
    using Number = decltype(number);
    std::array<Number, 4096> piece;
    while (!out.empty()) {
      const std::size_t count = std::min(piece.size(), out.size());
      file.read_at(first * static_cast<std::int64_t>(sizeof(Number)),
                   std::as_writable_bytes(std::span(piece).first(count)));
      std::copy_n(piece.begin(), count, out.begin());
      out = out.subspan(count);
      first += static_cast<std::int64_t>(count);
    }
  });
}

// One file of numbers from its beginning to its end.
class NumberFile : public TokenSource {
 public:
  NumberFile(InputFile file, TensorType type, std::int64_t size, std::int64_t vocabulary)
      : TokenSource(file.path().string(),
                    size,
                    std::string(tensor_type_name(type)),
                    std::min(vocabulary, bound_of(type))),
        file_(std::move(file)),
        type_(type) {}

 private:
  void read_unchecked(std::int64_t begin, std::span<std::int64_t> out) const override {
    read_numbers(file_, type_, begin, out);
  }

  InputFile file_;
  TensorType type_;
};

struct TextPart {
  fs::path path;
  std::int64_t begin = 0;  // its first token in the whole
  std::int64_t size = 0;
};

// The files of a folder, each but the last followed by the separator. Files are opened for each
// read: there may be more of them than a process may hold open.
class TextFolder : public TokenSource {
 public:
  TextFolder(const fs::path& folder, std::vector<TextPart> parts, std::int64_t vocabulary)
      : TokenSource(folder.string(),
                    parts.back().begin + parts.back().size,
                    fmt::format("bytes in {} text files", parts.size()),
                    std::min(vocabulary, kByteVocabulary)),
        parts_(std::move(parts)) {}

 private:
  void read_unchecked(std::int64_t begin, std::span<std::int64_t> out) const override {
    auto part = std::prev(std::upper_bound(
        parts_.begin(), parts_.end(), begin, [](std::int64_t place, const TextPart& candidate) {
          return place < candidate.begin;
        }));
    while (!out.empty()) {
      const std::int64_t offset = begin - part->begin;  // part->size at the separator
      const auto count = static_cast<std::size_t>(
          std::min(part->size - offset, static_cast<std::int64_t>(out.size())));
      if (count > 0) {
        read_numbers(InputFile(part->path), TensorType::kUInt8, offset, out.first(count));
      }
      begin += static_cast<std::int64_t>(count);
      out = out.subspan(count);
      if (!out.empty()) {
        out.front() = kDocumentSeparator;
        out = out.subspan(1);
        ++begin;
        ++part;
      }
    }
  }

  std::vector<TextPart> parts_;
};

[[noreturn]] void throw_empty(const fs::path& path) {
  throw InputError(path.string(), "expected training data, found no tokens; check the path");
}

// Size of a file of text. Throws InputError if it looks like something else.
std::int64_t checked_text_size(const InputFile& file) {
  const std::int64_t size = file.size();
  std::array<char, 4096> head{};
  const auto count = std::min(static_cast<std::size_t>(size), head.size());
  file.read_at(0, std::as_writable_bytes(std::span(head).first(count)));
  const auto* zero = std::find(head.begin(), head.begin() + count, '\0');
  if (zero != head.begin() + count) {
    throw InputError(file.path().string(),
                     fmt::format("expected UTF-8 text, found a zero byte at {}; files of tokens "
                                 "must be called .bin (uint16) or .bin and .idx (Megatron-LM)",
                                 zero - head.begin()));
  }
  return size;
}

std::unique_ptr<TokenSource> open_text_file(const fs::path& path, std::int64_t vocabulary) {
  InputFile file(path);
  const std::int64_t size = checked_text_size(file);
  if (size == 0) {
    throw_empty(path);
  }
  return std::make_unique<NumberFile>(std::move(file), TensorType::kUInt8, size, vocabulary);
}

std::vector<fs::path> visible_files(const fs::path& folder) {
  std::vector<fs::path> files;
  try {
    for (auto entry = fs::recursive_directory_iterator(folder);
         entry != fs::recursive_directory_iterator();
         ++entry) {
      const bool is_hidden = entry->path().filename().native().starts_with('.');
      if (is_hidden) {
        entry.disable_recursion_pending();
      } else if (entry->is_regular_file()) {
        files.push_back(entry->path());
      }
    }
  } catch (const fs::filesystem_error& error) {
    throw InputError(folder.string(),
                     fmt::format("expected readable files and folders, found: {}", error.what()));
  }
  std::sort(files.begin(), files.end(), [](const fs::path& a, const fs::path& b) {
    return a.native() < b.native();
  });
  return files;
}

std::unique_ptr<TokenSource> open_text_folder(const fs::path& folder, std::int64_t vocabulary) {
  std::vector<TextPart> parts;
  std::int64_t begin = 0;
  for (const fs::path& path : visible_files(folder)) {
    const std::string extension = path.extension();
    if (extension == ".bin" || extension == ".idx") {
      throw InputError(path.string(),
                       "expected only text in a folder of training data, found a file of tokens; "
                       "name that file instead of its folder");
    }
    const std::int64_t size = checked_text_size(InputFile(path));
    if (size > 0) {
      parts.push_back({.path = path, .begin = begin, .size = size});
      begin += size + 1;
    }
  }
  if (parts.empty()) {
    throw_empty(folder);
  }
  return std::make_unique<TextFolder>(folder, std::move(parts), vocabulary);
}

std::unique_ptr<TokenSource> open_nanogpt(const fs::path& path, std::int64_t vocabulary) {
  InputFile file(path);
  const std::int64_t size = file.size();
  if (size == 0) {
    throw_empty(path);
  }
  if (size % 2 != 0) {
    throw InputError(path.string(),
                     fmt::format("expected uint16 tokens, two bytes each, found {} bytes; a .bin "
                                 "of another type needs its .idx beside it",
                                 size));
  }
  // First four bytes of llm.c's files, which would pass as two tokens.
  constexpr std::array<std::int32_t, 2> kForeignMagic = {20240520, 20240801};
  std::int32_t magic = 0;
  if (size >= static_cast<std::int64_t>(sizeof(magic))) {
    file.read_at(0, std::as_writable_bytes(std::span(&magic, 1)));
  }
  if (std::find(kForeignMagic.begin(), kForeignMagic.end(), magic) != kForeignMagic.end()) {
    throw InputError(path.string(),
                     "expected bare uint16 tokens, found the header of an llm.c file; if its "
                     "tokens are uint16, drop the first 1024 bytes: tail -c +1025");
  }
  return std::make_unique<NumberFile>(std::move(file), TensorType::kUInt16, size / 2, vocabulary);
}

std::unique_ptr<TokenSource> open_megatron(const fs::path& prefix, std::int64_t vocabulary) {
  fs::path index_path = prefix;
  index_path += ".idx";
  fs::path data_path = prefix;
  data_path += ".bin";
  const MegatronIndex index = read_megatron_index(index_path);
  InputFile file(data_path);
  const std::int64_t expected = index.num_tokens * element_size(index.type).count;
  if (file.size() != expected) {
    throw InputError(data_path.string(),
                     fmt::format("expected {} bytes, as {} says, found {}; copy both files again",
                                 expected,
                                 index_path.filename().string(),
                                 file.size()));
  }
  if (index.num_tokens == 0) {
    throw_empty(data_path);
  }
  return std::make_unique<NumberFile>(std::move(file), index.type, index.num_tokens, vocabulary);
}

bool exists_with(const fs::path& prefix, const char* extension) {
  fs::path path = prefix;
  path += extension;
  std::error_code ignored;  // what cannot be looked at is reported when it is opened
  return fs::exists(path, ignored);
}

}  // namespace

TokenSource::TokenSource(std::string name,
                         std::int64_t size,
                         const std::string& type_name,
                         std::int64_t vocabulary_bound)
    : name_(std::move(name)),
      size_(size),
      vocabulary_bound_(vocabulary_bound),
      description_(fmt::format("{}: {} tokens ({})", name_, size, type_name)) {}

void TokenSource::read(std::int64_t begin, std::span<std::int64_t> out) const {
  SHARDWISE_CHECK(begin >= 0 && begin <= size_ && std::cmp_less_equal(out.size(), size_ - begin),
                  fmt::format("{} tokens at {} of {}", out.size(), begin, size_));
  if (out.empty()) {
    return;
  }
  read_unchecked(begin, out);
  const auto bad = std::find_if(out.begin(), out.end(), [&](std::int64_t token) {
    return token < 0 || token >= vocabulary_bound_;
  });
  if (bad != out.end()) {
    throw InputError(name_,
                     fmt::format("expected tokens from 0 to {}, found {} as token number {}; "
                                 "use data made with the tokenizer of this model",
                                 vocabulary_bound_ - 1,
                                 *bad,
                                 begin + (bad - out.begin())));
  }
}

std::unique_ptr<TokenSource> open_token_source(const fs::path& path, std::int64_t vocabulary) {
  SHARDWISE_CHECK(vocabulary > 0, "a vocabulary without tokens");
  std::error_code ignored;  // a path that cannot be looked at is reported when it is opened
  if (fs::is_directory(path, ignored)) {
    return open_text_folder(path, vocabulary);
  }
  const fs::path prefix = fs::path(path).replace_extension();
  if (path.extension() == ".idx") {
    return open_megatron(prefix, vocabulary);
  }
  if (path.extension() == ".bin") {
    return exists_with(prefix, ".idx") ? open_megatron(prefix, vocabulary)
                                       : open_nanogpt(path, vocabulary);
  }
  if (!fs::exists(path, ignored) && exists_with(path, ".idx") && exists_with(path, ".bin")) {
    return open_megatron(path, vocabulary);
  }
  return open_text_file(path, vocabulary);
}

}  // namespace shardwise
