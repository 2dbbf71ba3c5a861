#include "files/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "files/temporary_folder.h"

namespace shardwise {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

JsonValue parse(std::string_view text) { return parse_json(text, "config.json"); }

// The message of the InputError that `action` throws.
std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const InputError& error) {
    return error.what();
  }
  return "no error";
}

std::string parse_error_of(std::string_view text) {
  return error_of([&] { parse(text); });
}

TEST(Json, ReadsEveryKind) {
  const JsonValue root = parse(R"({"n": null, "b": true, "i": -7, "d": 2.5, "s": "x\u00e9",
                                   "a": [1, [2], {}], "o": {"k": 1}})");
  EXPECT_TRUE(root.at("n").is_null());
  EXPECT_TRUE(root.at("b").as_bool());
  EXPECT_EQ(root.at("i").as_int(), -7);
  EXPECT_EQ(root.at("d").as_double(), 2.5);
  EXPECT_EQ(root.at("s").as_string(), "xé");
  EXPECT_EQ(root.at("a").items().size(), 3U);
  EXPECT_EQ(root.at("a").items()[1].items()[0].as_int(), 2);
  EXPECT_EQ(root.at("o").at("k").kind(), JsonKind::kInteger);
}

TEST(Json, MembersKeepTheOrderOfTheFile) {
  std::string order;
  for (const auto& [key, value] : parse(R"({"z": 1, "a": {"q": 2}, "m": 3})").members()) {
    order += key;
  }
  EXPECT_EQ(order, "zam");
}

TEST(Json, ErrorNamesFileLineKeyPathAndValue) {
  const JsonValue root = parse("{\n  \"layers\": [\n    {},\n    {\"n_head\": \"12\"}\n  ]\n}");
  EXPECT_EQ(error_of([&] { root.at("layers").items()[1].at("n_head").as_int(1); }),
            "config.json:4: key 'layers[1].n_head': expected a positive integer, found \"12\"; "
            "drop the quotes");
}

TEST(Json, LinesAreThoseOfTheKeys) {
  // A number is only complete when the parser has seen the newline after it.
  const JsonValue root = parse("{\n\"a\": 1\n,\n\"b\":\n[1,\n2\n,3\n], \"c\": {\n}}");
  EXPECT_EQ(root.line(), 1);
  EXPECT_EQ(root.at("a").line(), 2);
  EXPECT_EQ(root.at("b").line(), 4);
  EXPECT_EQ(root.at("b").items()[0].line(), 5);
  EXPECT_EQ(root.at("b").items()[1].line(), 6);
  EXPECT_EQ(root.at("b").items()[2].line(), 7);
  EXPECT_EQ(root.at("c").line(), 8);
}

TEST(Json, MissingKeyNamesTheObjectAndTheNearestKey) {
  const JsonValue root = parse("{\n\"model\": {\"num_layers\": 2, \"heads\": 4}}");
  EXPECT_EQ(error_of([&] { root.at("model").at("num_layer"); }),
            "config.json:2: key 'model': expected key 'num_layer', found an object without it; did "
            "you mean 'num_layers'?");
  EXPECT_EQ(error_of([&] { parse("{}").at("x"); }),
            "config.json:1: expected key 'x', found an empty object");
}

TEST(Json, FindGivesNothingForAMissingKey) {
  const JsonValue root = parse(R"({"a": 1})");
  EXPECT_FALSE(root.find("b").has_value());
  EXPECT_EQ(root.find("a")->as_int(), 1);
  EXPECT_THAT(error_of([&] { root.at("a").find("b"); }), HasSubstr("expected an object, found 1"));
}

TEST(Json, UnknownKeyIsRejectedWithASuggestion) {
  const JsonValue root = parse("{\"stages\": 1,\n\"schedul\": 2}");
  EXPECT_NO_THROW(root.reject_unknown_keys({"stages", "schedul"}));
  EXPECT_EQ(error_of([&] {
              root.reject_unknown_keys({"stages", "schedule"});
            }),
            "config.json:2: key 'schedul': expected a known key, found 'schedul'; did you mean "
            "'schedule'?");
}

TEST(Json, IntegersAreCheckedAgainstTheirLimits) {
  const JsonValue root = parse("[0, 9, 4096.0, 0.5, 3000000000, 18446744073709551615]");
  const std::vector<JsonValue> items = root.items();
  EXPECT_THAT(error_of([&] { items[0].as_int(1); }), HasSubstr("a positive integer, found 0"));
  EXPECT_THAT(error_of([&] { items[1].as_int(1, 8); }), HasSubstr("whole number from 1 to 8"));
  EXPECT_EQ(items[2].as_int64(), 4096);
  EXPECT_THAT(error_of([&] { items[3].as_int64(); }), HasSubstr("a whole number, found 0.5"));
  EXPECT_EQ(items[4].as_int64(), 3'000'000'000);
  EXPECT_THAT(error_of([&] { items[4].as_int(0); }), HasSubstr("from 0 to 2147483647"));
  EXPECT_THAT(error_of([&] { items[5].as_int64(); }), HasSubstr("a whole number"));
  EXPECT_EQ(items[5].as_double(), 18446744073709551615.0);
}

TEST(Json, WrongKindsSayWhatWasFound) {
  const JsonValue root = parse(R"([[1], {"a": 1}, true, null])");
  const std::vector<JsonValue> items = root.items();
  EXPECT_THAT(error_of([&] { items[0].as_string(); }), HasSubstr("found an array of 1 element"));
  EXPECT_THAT(error_of([&] { items[1].as_bool(); }), HasSubstr("found an object with 1 key"));
  EXPECT_THAT(error_of([&] { items[2].as_double(); }), HasSubstr("a number, found true"));
  EXPECT_THAT(error_of([&] { items[3].members(); }), HasSubstr("an object, found null"));
  EXPECT_THAT(error_of([&] { items[1].items(); }), HasSubstr("key '[1]': expected an array"));
  EXPECT_THAT(error_of([&] { items[2].size(); }), HasSubstr("an array or an object"));
}

TEST(Json, DoublesAreCheckedAgainstTheirLimits) {
  const JsonValue root = parse("[1.5]");
  EXPECT_THAT(error_of([&] { root.items()[0].as_double(0, 1); }), HasSubstr("from 0 to 1, found"));
  EXPECT_THAT(error_of([&] { root.items()[0].as_double(2); }), HasSubstr("at least 2"));
}

TEST(Json, ValuesOutliveTheVariableOfTheDocument) {
  const JsonValue inner = parse(R"({"a": {"b": "kept"}})").at("a").at("b");
  EXPECT_EQ(inner.as_string(), "kept");
  EXPECT_EQ(inner.path(), "a.b");
}

TEST(Json, DuplicateKeyIsAnError) {
  EXPECT_THAT(parse_error_of("{\"a\": 1,\n\"a\": 2}"),
              StartsWith("config.json:2: expected each key once in an object, found key 'a'"));
  EXPECT_EQ(parse_error_of(R"({"a": {"b": 1}, "b": {"b": 1}})"), "no error");
}

TEST(Json, MalformedTextNamesTheLine) {
  EXPECT_THAT(parse_error_of("{\n\"a\": 1,\n}"),
              AllOf(StartsWith("config.json:3: expected valid JSON, found a syntax error"),
                    HasSubstr("remove the comma before it")));
  EXPECT_THAT(parse_error_of("{\n\"a\": [1,\n2"), StartsWith("config.json:3: "));
  EXPECT_THAT(parse_error_of(""), StartsWith("config.json:1: expected valid JSON"));
  EXPECT_THAT(parse_error_of("[1] 2"), StartsWith("config.json:1: expected valid JSON"));
  EXPECT_THAT(parse_error_of("[1, // one\n2]"), HasSubstr("JSON has no comments"));
  EXPECT_THAT(parse_error_of("[NaN]"), HasSubstr("JSON has no NaN or Infinity"));
  EXPECT_THAT(parse_error_of("\"\xff\""), HasSubstr("invalid string"));
  EXPECT_THAT(parse_error_of("[1e999]"), HasSubstr("number overflow"));
}

TEST(Json, NestingAndSizeAreLimited) {
  EXPECT_THAT(parse_error_of(std::string(101, '[')), HasSubstr("at most 100 nested"));
  EXPECT_EQ(parse_error_of(std::string(100, '[') + std::string(100, ']')), "no error");
  EXPECT_THAT(error_of([] { parse_json("[1, 2, 3]", "x.json", Bytes(4)); }),
              HasSubstr("x.json: expected at most 4 B"));
}

TEST(Json, FilesThatCannotBeReadAreNamed) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of([&] { read_json_file(folder.path() / "none.json"); }),
              AllOf(HasSubstr("none.json"), HasSubstr("No such file")));
  EXPECT_THAT(error_of([&] { read_json_file(folder.path()); }), HasSubstr("Is a directory"));
  const std::filesystem::path file = folder.write("big.json", "[1, 2, 3]");
  EXPECT_EQ(read_json_file(file).items()[2].as_int(), 3);
  EXPECT_THAT(error_of([&] { read_json_file(file, Bytes(4)); }), HasSubstr("at most 4"));
}

TEST(Json, LongValuesAreCutInMessages) {
  const std::string text = "[\"" + std::string(1000, 'x') + "\"]";
  const std::string error = error_of([&] { parse(text).items()[0].as_int(); });
  EXPECT_LT(error.size(), 400U);
  EXPECT_THAT(error, HasSubstr("xxx...\""));
}

}  // namespace
}  // namespace shardwise
