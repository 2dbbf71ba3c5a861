// Training data as one long run of tokens that can be read at any place.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <span>
#include <string>

namespace shardwise {

class TokenSource {
 public:
  virtual ~TokenSource() = default;

  // Number of tokens.
  std::int64_t size() const { return size_; }
  // Every token is below this.
  std::int64_t vocabulary_bound() const { return vocabulary_bound_; }
  // For people: "data.bin: 301966 tokens of uint16".
  const std::string& description() const { return description_; }

  // Fills `out` with the tokens from `begin` on, which must exist (a bug otherwise). Throws
  // InputError for a negative token and one that is not below vocabulary_bound(), RuntimeFailure if
  // the disk fails or the file has become shorter. Threads may call it at once.
  void read(std::int64_t begin, std::span<std::int64_t> out) const;

 protected:
  TokenSource(std::string name,
              std::int64_t size,
              const std::string& type_name,
              std::int64_t vocabulary_bound);

 private:
  virtual void read_unchecked(std::int64_t begin, std::span<std::int64_t> out) const = 0;

  std::string name_;
  std::int64_t size_;
  std::int64_t vocabulary_bound_;
  std::string description_;
};

// Vocabulary of data read as bytes.
inline constexpr std::int64_t kByteVocabulary = 256;
// Token between the files of a folder of text.
inline constexpr std::int64_t kDocumentSeparator = 0;

// Opens training data by what `path` is:
//   x.bin with x.idx beside it, x.idx, or the common prefix x   Megatron-LM, megatron_index.h
//   x.bin alone                                                 nanoGPT: uint16, little-endian
//   any other file                                              UTF-8 text, one token per byte
//   a folder                                                    text: all files below it
// The files of a folder are joined in the order of their paths (compared by bytes, folders
// included), with the token kDocumentSeparator between two; empty and hidden files are left out.
// Tokens are read on demand: neither time nor memory depends on their number (time does for an
// index, once).
//
// `vocabulary` is the model's: data may have any tokens below it. Throws InputError for missing,
// empty, odd-sized or inconsistent files, and for text that holds a zero byte near its beginning,
// which is some binary format.
std::unique_ptr<TokenSource> open_token_source(
    const std::filesystem::path& path,
    std::int64_t vocabulary = std::numeric_limits<std::int64_t>::max());

}  // namespace shardwise
