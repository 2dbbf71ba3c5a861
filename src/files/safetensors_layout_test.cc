#include "files/safetensors_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/errors.h"

namespace shardwise {
namespace {

using ::testing::HasSubstr;

// The message of the error for a header in front of `data_size` bytes.
std::string parse_error_of(std::string_view header, std::int64_t data_size) {
  try {
    SafetensorsLayout::parse(header, data_size, "m.safetensors");
  } catch (const InputError& error) {
    return error.what();
  }
  return "no error";
}

TEST(SafetensorsLayout, WideTypesComeFirstThenNames) {
  const SafetensorsLayout layout =
      SafetensorsLayout::make({{.name = "b", .type = TensorType::kBFloat16, .shape = {3}},
                               {.name = "z", .type = TensorType::kFloat32, .shape = {2, 2}},
                               {.name = "a", .type = TensorType::kFloat32, .shape = {}},
                               {.name = "e", .type = TensorType::kFloat32, .shape = {0, 7}}});
  std::string order;
  for (const TensorEntry& entry : layout.tensors()) {
    order += entry.tensor.name;
  }
  EXPECT_EQ(order, "aezb");
  EXPECT_EQ(layout.find("z")->begin, 4);  // after one float
  EXPECT_EQ(layout.find("z")->end, 20);
  EXPECT_EQ(layout.data_size(), 26);  // + 3 x 2 bytes
  EXPECT_EQ(layout.find("missing"), nullptr);
}

TEST(SafetensorsLayout, HeaderReadsBackAndIsAligned) {
  const SafetensorsLayout written = SafetensorsLayout::make(
      {{.name = "weight \"1\"", .type = TensorType::kFloat64, .shape = {2, 3}}},
      {{"format", "pt"}});
  const std::string preamble = written.preamble();
  EXPECT_EQ(preamble.size() % 8, 0U);
  EXPECT_EQ(written.data_begin(), static_cast<std::int64_t>(preamble.size()));
  const auto read = SafetensorsLayout::parse(preamble.substr(8), 48, "m.safetensors");
  EXPECT_EQ(read.data_begin(), written.data_begin());
  EXPECT_EQ(read.metadata().at("format"), "pt");
  const TensorEntry* entry = read.find("weight \"1\"");
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(entry->tensor.type, TensorType::kFloat64);
  EXPECT_EQ(entry->tensor.shape, (std::vector<std::int64_t>{2, 3}));
}

TEST(SafetensorsLayout, PreambleByHand) {
  const auto layout =
      SafetensorsLayout::make({{.name = "a", .type = TensorType::kUInt8, .shape = {2}}});
  // 52 characters, padded to 56.
  EXPECT_EQ(layout.preamble(),
            std::string("\x38\0\0\0\0\0\0\0", 8) +
                R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})" + "   ");
}

TEST(SafetensorsLayout, SizesThatDoNotFitTheShapeAreErrors) {
  EXPECT_THAT(parse_error_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4),
              HasSubstr("m.safetensors:1: key 'a.data_offsets': expected the 8 bytes of shape [2] "
                        "of F32, found 0 to 4"));
  EXPECT_THAT(parse_error_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4),
              HasSubstr("found 4 to 0"));
  // 2^96 elements; zero times them would be no bytes, but readers multiply from the left.
  EXPECT_THAT(parse_error_of(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296,4294967296,0],
                                      "data_offsets":[0,0]}})",
                             0),
              HasSubstr("key 'a': expected dimensions of at least 0 and at most 2^50 bytes"));
  EXPECT_EQ(parse_error_of(R"({"a":{"dtype":"F32","shape":[7,0],"data_offsets":[0,0]}})", 0),
            "no error");
}

TEST(SafetensorsLayout, HolesAndOverlapsAreErrors) {
  EXPECT_THAT(parse_error_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},
                                 "b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})",
                             5),
              HasSubstr("expected tensor 'b' at byte 2 of the data"));
  EXPECT_THAT(parse_error_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},
                                 "b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
                             3),
              HasSubstr("found 1; the file is damaged"));
}

TEST(SafetensorsLayout, MissingAndSurplusDataAreErrors) {
  const std::string_view header = R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})";
  EXPECT_THAT(parse_error_of(header, 3),
              HasSubstr("expected 4 bytes of data, found 3; the file is "
                        "cut off"));
  EXPECT_THAT(parse_error_of(header, 5), HasSubstr("found 5; the file is damaged"));
  EXPECT_EQ(parse_error_of(header, 4), "no error");
}

TEST(SafetensorsLayout, OddHeadersAreErrors) {
  EXPECT_THAT(parse_error_of("[]", 0), HasSubstr("expected an object"));
  EXPECT_THAT(parse_error_of(R"({"a":{"dtype":"F31","shape":[],"data_offsets":[0,4]}})", 4),
              HasSubstr("key 'a.dtype': expected one of the types BOOL, U8"));
  EXPECT_THAT(parse_error_of(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4),
              HasSubstr("expected a whole number, zero or more, found -1"));
  EXPECT_THAT(parse_error_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4),
              HasSubstr("expected two offsets"));
  EXPECT_THAT(parse_error_of(R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4),
              HasSubstr("expected key 'dtype'"));
  EXPECT_THAT(parse_error_of(R"({"__metadata__":{"a":1}})", 0), HasSubstr("a text in quotes"));
}

TEST(SafetensorsLayout, ImpossibleTensorsAreErrors) {
  EXPECT_THROW(tensor_bytes({.name = "a", .shape = {-1}}), InputError);
  EXPECT_THROW(tensor_bytes({.name = "a", .shape = {std::int64_t{1} << 40, 1024}}), InputError);
  EXPECT_THROW(SafetensorsLayout::make({{.name = "a", .shape = {1}}, {.name = "a", .shape = {2}}}),
               InputError);
  EXPECT_THROW(SafetensorsLayout::make({{.name = "__metadata__", .shape = {1}}}), InputError);
}

TEST(SafetensorsLayout, FileWithoutTensorsIsAllowed) {
  const SafetensorsLayout layout = SafetensorsLayout::make({});
  EXPECT_EQ(layout.file_size(), 16);  // 8 bytes of length, "{}" and six spaces
  EXPECT_EQ(parse_error_of("{}      ", 0), "no error");
}

}  // namespace
}  // namespace shardwise
