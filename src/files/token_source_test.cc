#include "files/token_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "core/errors.h"
#include "files/temporary_folder.h"

namespace shardwise {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

namespace fs = std::filesystem;

std::vector<std::int64_t> read(const TokenSource& source, std::int64_t begin, std::int64_t count) {
  std::vector<std::int64_t> tokens(static_cast<std::size_t>(count));
  source.read(begin, tokens);
  return tokens;
}

std::string all_text(const TokenSource& source) {
  std::string text;
  for (const std::int64_t token : read(source, 0, source.size())) {
    text += static_cast<char>(token);
  }
  return text;
}

std::string open_error_of(const fs::path& path) {
  try {
    open_token_source(path);
  } catch (const InputError& error) {
    return error.what();
  }
  return "no error";
}

template <typename Number>
std::string bytes(const std::vector<Number>& numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(Number)};
}

// A Megatron index of one document with one sequence.
std::string index_of_one(std::uint8_t code, std::int32_t length) {
  return std::string("MMIDIDX\0\0", 9) + bytes<std::uint64_t>({1}) + static_cast<char>(code) +
         bytes<std::uint64_t>({1, 2}) + bytes<std::int32_t>({length}) +
         bytes<std::int64_t>({0, 0, 1});
}

TEST(TokenSource, TextIsReadAsBytes) {
  const TemporaryFolder folder;
  const auto source = open_token_source(folder.write("a.txt", "h\xc3\xa9!"));
  EXPECT_EQ(source->size(), 4);
  EXPECT_EQ(source->vocabulary_bound(), 256);
  EXPECT_THAT(read(*source, 1, 3), ElementsAre(0xc3, 0xa9, '!'));
  EXPECT_THAT(source->description(), HasSubstr("a.txt: 4 tokens (U8)"));
  EXPECT_TRUE(read(*source, 4, 0).empty());
}

TEST(TokenSource, FolderIsJoinedInOrderWithSeparators) {
  const TemporaryFolder folder;
  folder.write("b.txt", "bb");
  folder.write("a/z.md", "z");
  folder.write("empty.txt", "");
  folder.write(".hidden", "no");
  folder.write(".git/c", "no");
  folder.write("B", "first");  // capitals come before small letters
  const auto source = open_token_source(folder.path());
  const std::string all("first\0z\0bb", 10);
  EXPECT_EQ(all_text(*source), all);
  for (std::int64_t begin = 0; begin <= 10; ++begin) {
    for (std::int64_t count = 0; begin + count <= 10; ++count) {
      std::string part;
      for (const std::int64_t token : read(*source, begin, count)) {
        part += static_cast<char>(token);
      }
      ASSERT_EQ(part, all.substr(static_cast<std::size_t>(begin), static_cast<std::size_t>(count)));
    }
  }
}

TEST(TokenSource, NanoGptFileHoldsLittleEndianUint16) {
  const TemporaryFolder folder;
  const auto source = open_token_source(folder.write("train.bin", "\x01\x02\xff\xff"));
  EXPECT_EQ(source->size(), 2);
  EXPECT_EQ(source->vocabulary_bound(), 65536);
  EXPECT_THAT(read(*source, 0, 2), ElementsAre(0x0201, 65535));
}

TEST(TokenSource, LongReadsCrossPieces) {
  std::vector<std::uint16_t> tokens(10'000);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<std::uint16_t>(i * 7);
  }
  const TemporaryFolder folder;
  const auto source = open_token_source(folder.write("x.bin", bytes(tokens)));
  const std::vector<std::int64_t> read_back = read(*source, 3, 9'990);
  for (std::size_t i = 0; i < read_back.size(); ++i) {
    ASSERT_EQ(read_back[i], tokens[i + 3]);
  }
}

TEST(TokenSource, MegatronFilesOpenByAnyOfTheirNames) {
  const TemporaryFolder folder;
  folder.write("x.idx", index_of_one(4, 3));
  folder.write("x.bin", bytes<std::int32_t>({70'000, 5, 0}));
  for (const char* name : {"x.bin", "x.idx", "x"}) {
    const auto source = open_token_source(folder.path() / name);
    EXPECT_THAT(read(*source, 0, 3), ElementsAre(70'000, 5, 0)) << name;
  }
}

TEST(TokenSource, MegatronTypesAreWidened) {
  const TemporaryFolder folder;
  const auto one = [&](std::uint8_t code, const std::string& data) {
    folder.write("x.idx", index_of_one(code, 1));
    folder.write("x.bin", data);
    return read(*open_token_source(folder.path() / "x"), 0, 1).front();
  };
  EXPECT_EQ(one(1, "\xff"), 255);
  EXPECT_EQ(one(2, "\x7f"), 127);
  EXPECT_EQ(one(3, bytes<std::int16_t>({32'767})), 32'767);
  EXPECT_EQ(one(4, bytes<std::int32_t>({1 << 30})), 1 << 30);
  EXPECT_EQ(one(5, bytes<std::int64_t>({std::int64_t{1} << 40})), std::int64_t{1} << 40);
  EXPECT_EQ(one(8, bytes<std::uint16_t>({65'535})), 65'535);
}

TEST(TokenSource, TokensOutsideTheVocabularyAreErrors) {
  const TemporaryFolder folder;
  folder.write("x.idx", index_of_one(4, 3));
  folder.write("x.bin", bytes<std::int32_t>({1, 50'257, -1}));
  const auto source = open_token_source(folder.path() / "x", 50'257);
  EXPECT_EQ(source->vocabulary_bound(), 50'257);
  EXPECT_EQ(read(*source, 0, 1).front(), 1);
  try {
    read(*source, 1, 1);
    FAIL() << "no error";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("tokens from 0 to 50256, found 50257 as token number 1"));
  }
  EXPECT_THROW(read(*source, 2, 1), InputError);
}

TEST(TokenSource, DamagedFilesAreErrors) {
  const TemporaryFolder folder;
  EXPECT_THAT(open_error_of(folder.path() / "none.txt"), HasSubstr("No such file"));
  EXPECT_THAT(open_error_of(folder.path() / "none.bin"), HasSubstr("No such file"));
  EXPECT_THAT(open_error_of(folder.path()), HasSubstr("found no tokens"));
  EXPECT_THAT(open_error_of(folder.write("a.txt", "")), HasSubstr("found no tokens"));
  EXPECT_THAT(open_error_of(folder.write("a.bin", "")), HasSubstr("found no tokens"));
  EXPECT_THAT(open_error_of(folder.write("a.bin", "abc")), HasSubstr("found 3 bytes"));
  EXPECT_THAT(open_error_of(folder.write("z.txt", std::string("ab\0c", 4))),
              HasSubstr("found a zero byte at 2"));
  EXPECT_THAT(open_error_of(folder.path()), HasSubstr("expected only text in a folder"));
  EXPECT_THAT(open_error_of(folder.write("llm.bin", bytes<std::int32_t>({20240520, 1}))),
              HasSubstr("header of an llm.c file"));
}

TEST(TokenSource, MegatronDataMustFitItsIndex) {
  const TemporaryFolder folder;
  folder.write("x.idx", index_of_one(4, 3));
  folder.write("x.bin", bytes<std::int32_t>({1, 2}));
  EXPECT_THAT(open_error_of(folder.path() / "x.bin"),
              HasSubstr("expected 12 bytes, as x.idx says"));
  folder.write("x.bin", bytes<std::int32_t>({1, 2, 3, 4}));
  EXPECT_THAT(open_error_of(folder.path() / "x.bin"), HasSubstr("found 16"));
  folder.write("y.idx", index_of_one(4, 3));
  EXPECT_THAT(open_error_of(folder.path() / "y.idx"), HasSubstr("y.bin"));
}

TEST(TokenSource, FileThatShrinksWhileOpenIsAFailure) {
  const TemporaryFolder folder;
  const fs::path path = folder.write("a.txt", "abcdef");
  const auto source = open_token_source(path);
  fs::resize_file(path, 2);
  EXPECT_THROW(read(*source, 0, 6), RuntimeFailure);
}

TEST(TokenSourceDeathTest, ReadingOutsideIsABug) {
  const TemporaryFolder folder;
  const auto source = open_token_source(folder.write("a.txt", "abc"));
  EXPECT_EXIT(read(*source, 2, 2), ::testing::ExitedWithCode(70), "2 tokens at 2 of 3");
}

}  // namespace
}  // namespace shardwise
