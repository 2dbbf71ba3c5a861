// Reader and writer together, on disk.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <numeric>

#include "core/errors.h"
#include "files/read_file.h"
#include "files/safetensors_reader.h"
#include "files/safetensors_writer.h"
#include "files/temporary_folder.h"

namespace shardwise {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string open_error_of(const std::filesystem::path& path) {
  try {
    SafetensorsReader::open(path);
  } catch (const InputError& error) {
    return error.what();
  }
  return "no error";
}

// Three float tensors of 8, 16 and 4 elements.
std::vector<TensorSpec> three_tensors() {
  return {{.name = "embed", .shape = {2, 4}},
          {.name = "block", .shape = {4, 4}},
          {.name = "head", .shape = {4}}};
}

std::vector<float> floats(std::size_t count, float first) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), first);
  return values;
}

TEST(Safetensors, TwoWritersFillOneTensor) {
  const TemporaryFolder folder;
  const ShardedTensors tensors = split_tensors(three_tensors(), Bytes(1 << 20));
  create_safetensors(folder.path(), tensors);
  SafetensorsWriter first(folder.path(), tensors);
  SafetensorsWriter second(folder.path(), tensors);
  const std::vector<float> low = floats(8, 0.0F);
  const std::vector<float> high = floats(8, 8.0F);
  second.write("block", 32, std::as_bytes(std::span(high)));
  first.write("block", 0, std::as_bytes(std::span(low)));
  first.sync();
  second.sync();

  const SafetensorsReader reader = SafetensorsReader::open(folder.path());
  EXPECT_THAT(reader.names(), ElementsAre("block", "embed", "head"));
  EXPECT_EQ(reader.metadata().at("format"), "pt");
  std::vector<float> row(4);
  reader.read("block", 24, std::as_writable_bytes(std::span(row)));  // elements 6 to 9
  EXPECT_THAT(row, ElementsAre(6, 7, 8, 9));
  reader.read("head", 0, std::as_writable_bytes(std::span(row)));
  EXPECT_THAT(row, ElementsAre(0, 0, 0, 0)) << "unwritten data is zero";
}

TEST(Safetensors, ShardsAreFilledInOrderUpToTheLimit) {
  // 32, 64 and 16 bytes: 32 + 64 exceed 90, 64 + 16 do not.
  const ShardedTensors tensors = split_tensors(three_tensors(), Bytes(90));
  ASSERT_EQ(tensors.shards.size(), 2U);
  EXPECT_EQ(tensors.shards[0].file_name, "model-00001-of-00002.safetensors");
  EXPECT_EQ(tensors.shards[0].layout.data_size(), 32);
  EXPECT_EQ(tensors.shards[1].layout.data_size(), 80);
  EXPECT_EQ(tensors.total_size(), Bytes(112));
  EXPECT_EQ(split_tensors(three_tensors(), Bytes(1)).shards.size(), 3U) << "larger than the limit";
  EXPECT_THROW(split_tensors({{.name = "a"}, {.name = "a"}}, Bytes(90)), InputError);
}

TEST(Safetensors, ShardedModelReadsThroughItsIndex) {
  const TemporaryFolder folder;
  const ShardedTensors tensors = split_tensors(three_tensors(), Bytes(90));
  create_safetensors(folder.path(), tensors);
  SafetensorsWriter writer(folder.path(), tensors);
  const std::vector<float> values = floats(4, 1.0F);
  writer.write("head", 0, std::as_bytes(std::span(values)));
  const SafetensorsReader reader = SafetensorsReader::open(folder.path());
  std::vector<float> read(4);
  reader.read("head", 0, std::as_writable_bytes(std::span(read)));
  EXPECT_EQ(read, values);
  EXPECT_EQ(reader.at("embed").tensor.shape, (std::vector<std::int64_t>{2, 4}));
  EXPECT_THAT(read_file(folder.path() / kSafetensorsIndexName), HasSubstr("\"total_size\": 112"));
}

TEST(Safetensors, SameTensorsGiveTheSameBytes) {
  const TemporaryFolder a;
  const TemporaryFolder b;
  for (const TemporaryFolder* folder : {&a, &b}) {
    create_safetensors(folder->path(), split_tensors(three_tensors(), Bytes(90)));
  }
  for (const char* name : {"model-00001-of-00002.safetensors", "model.safetensors.index.json"}) {
    EXPECT_EQ(read_file(a.path() / name), read_file(b.path() / name));
  }
}

TEST(Safetensors, UnknownTensorsAndRangesAreErrors) {
  const TemporaryFolder folder;
  create_safetensors(folder.path(), split_tensors(three_tensors(), Bytes(1 << 20)));
  const SafetensorsReader reader = SafetensorsReader::open(folder.path());
  std::array<std::byte, 8> out{};
  EXPECT_THROW(reader.read("head", 9, out), InputError);
  EXPECT_THROW(reader.read("head", -1, out), InputError);
  EXPECT_NO_THROW(reader.read("head", 8, out));
  EXPECT_NO_THROW(reader.read("head", 16, std::span<std::byte>()));
  try {
    reader.at("blok");
    FAIL() << "no error";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(),
                HasSubstr("expected tensor 'blok', found none; did you mean 'block'?"));
  }
}

TEST(Safetensors, FilesThatAreNoneAreNamed) {
  const TemporaryFolder folder;
  EXPECT_THAT(open_error_of(folder.path()), HasSubstr("found neither"));
  EXPECT_THAT(open_error_of(folder.path() / "none.safetensors"), HasSubstr("No such file"));
  EXPECT_THAT(open_error_of(folder.write("a", "1234567")), HasSubstr("found 7 bytes"));
  EXPECT_THAT(open_error_of("/dev/null"), HasSubstr("found a device"));
  const std::string huge = "\xff\xff\xff\xff\xff\xff\xff\x7f{}";
  EXPECT_THAT(open_error_of(folder.write("b", huge)),
              HasSubstr("header length of 9223372036854775807"));
  EXPECT_THAT(open_error_of(folder.write("c", "PK\x03\x04 a pickle in a zip file")),
              HasSubstr("of another format"));
}

TEST(Safetensors, TruncatedFileIsAnErrorAtEveryLength) {
  const TemporaryFolder folder;
  create_safetensors(folder.path(), split_tensors(three_tensors(), Bytes(1 << 20)));
  const std::string whole = read_file(folder.path() / kSafetensorsName);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_NE(open_error_of(folder.write("part", whole.substr(0, size))), "no error") << size;
  }
}

TEST(Safetensors, FileThatShrinksWhileOpenIsAFailure) {
  const TemporaryFolder folder;
  create_safetensors(folder.path(), split_tensors(three_tensors(), Bytes(1 << 20)));
  const SafetensorsReader reader = SafetensorsReader::open(folder.path());
  std::filesystem::resize_file(folder.path() / kSafetensorsName, 16);
  std::array<std::byte, 8> out{};
  EXPECT_THROW(reader.read("head", 0, out), RuntimeFailure);
}

TEST(Safetensors, IndexMustMatchItsFiles) {
  const TemporaryFolder folder;
  create_safetensors(folder.path(), split_tensors(three_tensors(), Bytes(1 << 20)));
  const auto error_of_index = [&](const std::string& weight_map) {
    return open_error_of(folder.write("x.json", "{\"weight_map\":\n" + weight_map + "}"));
  };
  EXPECT_EQ(error_of_index(R"({"head": "model.safetensors"})"), "no error");
  EXPECT_THAT(error_of_index(R"({"tail": "model.safetensors"})"),
              HasSubstr("x.json:2: key 'weight_map.tail': expected this tensor in model.safe"));
  EXPECT_THAT(error_of_index(R"({"head": "../model.safetensors"})"),
              HasSubstr("expected the name of a file beside the index"));
  EXPECT_THAT(error_of_index(R"({"head": "gone.safetensors"})"), HasSubstr("No such file"));
  EXPECT_THAT(error_of_index("{}"), HasSubstr("at least one tensor"));
}

TEST(SafetensorsDeathTest, WritingOutsideATensorIsABug) {
  const TemporaryFolder folder;
  const ShardedTensors tensors = split_tensors(three_tensors(), Bytes(1 << 20));
  SafetensorsWriter writer(folder.path(), tensors);
  const std::vector<float> values = floats(4, 0.0F);
  EXPECT_EXIT(writer.write("head", 1, std::as_bytes(std::span(values))),
              ::testing::ExitedWithCode(70),
              "16 bytes at 1 of tensor 'head', which has 16");
}

}  // namespace
}  // namespace shardwise
