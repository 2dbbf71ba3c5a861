#include "files/megatron_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "core/errors.h"
#include "files/temporary_folder.h"

namespace shardwise {
namespace {

using ::testing::HasSubstr;

// An index field by field, so that a test can break one.
struct IndexText {
  std::string magic = std::string("MMIDIDX\0\0", 9);
  std::uint64_t version = 1;
  std::uint8_t code = 4;  // int32
  std::vector<std::int32_t> lengths = {3, 0, 2};
  std::vector<std::int64_t> pointers = {0, 12, 12};
  std::vector<std::int64_t> document_ends = {0, 1, 3};
  std::string modes = {};
  std::uint64_t claimed_sequences = 3;
  std::uint64_t claimed_documents = 3;

  std::string text() const {
    std::string out = magic;
    const auto append = [&](const auto& number) {
      out.append(reinterpret_cast<const char*>(&number), sizeof(number));
    };
    append(version);
    append(code);
    append(claimed_sequences);
    append(claimed_documents);
    std::for_each(lengths.begin(), lengths.end(), append);
    std::for_each(pointers.begin(), pointers.end(), append);
    std::for_each(document_ends.begin(), document_ends.end(), append);
    return out + modes;
  }
};

std::string error_of(const std::string& text) {
  const TemporaryFolder folder;
  try {
    read_megatron_index(folder.write("x.idx", text));
  } catch (const InputError& error) {
    return error.what();
  }
  return "no error";
}

TEST(MegatronIndex, ReadsCounts) {
  const TemporaryFolder folder;
  const MegatronIndex index = read_megatron_index(folder.write("x.idx", IndexText().text()));
  EXPECT_EQ(index.type, TensorType::kInt32);
  EXPECT_EQ(index.num_tokens, 5);
  EXPECT_EQ(index.num_sequences, 3);
  EXPECT_EQ(index.num_documents, 2);
}

TEST(MegatronIndex, MultimodalModesAreLeftAside) {
  IndexText index;
  index.modes = std::string(3, '\1');
  EXPECT_EQ(error_of(index.text()), "no error");
  index.modes = std::string(2, '\1');
  EXPECT_THAT(error_of(index.text()), HasSubstr("which do not fit"));
}

TEST(MegatronIndex, ManySequencesAreReadInPieces) {
  constexpr std::size_t kCount = 200'000;  // more than three pieces
  IndexText index;
  index.claimed_sequences = kCount;
  index.lengths.assign(kCount, 2);
  index.pointers.resize(kCount);
  for (std::size_t i = 0; i < kCount; ++i) {
    index.pointers[i] = static_cast<std::int64_t>(8 * i);
  }
  index.document_ends = {0, 5, kCount};
  const TemporaryFolder folder;
  EXPECT_EQ(read_megatron_index(folder.write("x.idx", index.text())).num_tokens, 400'000);
  index.pointers[150'000] += 8;
  EXPECT_THAT(error_of(index.text()), HasSubstr("expected sequence 150000 at byte 1200000"));
}

TEST(MegatronIndex, WrongHeadersAreErrors) {
  IndexText index;
  index.magic = "TNTIDX...";
  EXPECT_THAT(error_of(index.text()), HasSubstr("expected a Megatron index, which begins with"));
  index = {.version = 2};
  EXPECT_THAT(error_of(index.text()), HasSubstr("expected version 1 of the format, found 2"));
  for (const int code : {0, 6, 7, 9, 255}) {
    index = {.code = static_cast<std::uint8_t>(code)};
    EXPECT_THAT(error_of(index.text()), HasSubstr("expected a type code 1 to 5 or 8"));
  }
}

TEST(MegatronIndex, ClaimedCountsMustFitTheFile) {
  for (const std::uint64_t count :
       {std::uint64_t{2}, std::uint64_t{4}, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
    IndexText index;
    index.claimed_sequences = count;
    EXPECT_THAT(error_of(index.text()), HasSubstr("which do not fit"));
    index = {.claimed_documents = count};
    EXPECT_THAT(error_of(index.text()), HasSubstr("which do not fit"));
  }
}

TEST(MegatronIndex, InconsistentContentsAreErrors) {
  IndexText index;
  index.lengths = {3, -1, 2};
  EXPECT_THAT(error_of(index.text()), HasSubstr("length -1"));
  index = {.pointers = {0, 12, 16}};
  EXPECT_THAT(error_of(index.text()), HasSubstr("expected sequence 2 at byte 12"));
  index = {.document_ends = {0, 3, 2}};
  EXPECT_THAT(error_of(index.text()), HasSubstr("document ends that rise from 0, found 2"));
  index = {.document_ends = {1, 2, 3}};
  EXPECT_THAT(error_of(index.text()), HasSubstr("document ends that rise from 0, found 1"));
  index = {.document_ends = {0, 1, 2}};
  EXPECT_THAT(error_of(index.text()), HasSubstr("the last document to end at sequence 3"));
}

TEST(MegatronIndex, TruncatedFileIsAnErrorAtEveryLength) {
  const std::string whole = IndexText().text();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_NE(error_of(whole.substr(0, size)), "no error") << size;
  }
}

}  // namespace
}  // namespace shardwise
