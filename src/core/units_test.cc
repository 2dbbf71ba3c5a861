#include "core/units.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "core/errors.h"

namespace shardwise {
namespace {

// The message of the InputError that `parse` throws for `text`, or "" if it accepts it.
template <typename Parse>
std::string refusal(Parse parse, const std::string& text) {
  try {
    parse(text, "cluster.yaml:14: key 'bandwidth'");
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(Quantity, SizeOverRateIsTime) {
  EXPECT_DOUBLE_EQ((Bytes(600) / BytesPerSecond(300)).count, 2);
  EXPECT_DOUBLE_EQ((Flops(10) / FlopsPerSecond(4)).count, 2.5);
}

TEST(Quantity, RatioOfEqualUnitsIsAPureNumber) { EXPECT_DOUBLE_EQ(Bytes(3) / Bytes(2), 1.5); }

TEST(Quantity, SumsAndScalesKeepTheirUnit) {
  Bytes total = Bytes(1) + 3 * Bytes(5) - Bytes(2);
  total += Bytes(6);
  total -= Bytes(1);
  EXPECT_EQ(total, Bytes(19));  // 1 + 15 - 2 + 6 - 1
}

TEST(Picoseconds, RoundToNearest) {
  EXPECT_EQ(to_picoseconds(Seconds(1.4e-12)), Picoseconds(1));
  EXPECT_EQ(to_picoseconds(Seconds(1.6e-12)), Picoseconds(2));
  EXPECT_EQ(to_picoseconds(Seconds(0)), Picoseconds(0));
  EXPECT_EQ(to_picoseconds(Seconds(2)), Picoseconds(2'000'000'000'000));
}

TEST(Picoseconds, ComeBackAsTheSameSeconds) {
  EXPECT_DOUBLE_EQ(to_seconds(to_picoseconds(Seconds(0.125))).count, 0.125);
}

TEST(PicosecondsDeathTest, NegativeTimeIsABug) {
  EXPECT_EXIT(to_picoseconds(Seconds(-1)), testing::ExitedWithCode(70), "no picosecond form");
}

TEST(FormatBytes, ThreeSignificantDigits) {
  EXPECT_EQ(format_bytes(Bytes(0)), "0 B");
  EXPECT_EQ(format_bytes(Bytes(1023)), "1023 B");
  EXPECT_EQ(format_bytes(Bytes(1536)), "1.50 KiB");
  EXPECT_EQ(format_bytes(Bytes(85'899'345'920)), "80.0 GiB");
  EXPECT_EQ(format_bytes(Bytes(-3 * 1024 * 1024)), "-3.00 MiB");
}

TEST(FormatBytes, NeverPrints1024OfAUnit) {
  EXPECT_EQ(format_bytes(Bytes(1024 * 1024 - 1)), "1.00 MiB");
}

TEST(FormatSeconds, PicksTheUnit) {
  EXPECT_EQ(format_seconds(Seconds(0)), "0 s");
  EXPECT_EQ(format_seconds(Seconds(0.0123)), "12.3 ms");
  EXPECT_EQ(format_seconds(Seconds(4.5e-6)), "4.50 us");
  EXPECT_EQ(format_seconds(Seconds(123)), "123 s");
  EXPECT_EQ(format_seconds(Seconds(0.99999)), "1.00 s");
  EXPECT_EQ(format_seconds(Seconds(-0.002)), "-2.00 ms");
}

TEST(ParseBytes, KnowsDecimalAndBinaryUnits) {
  EXPECT_EQ(parse_bytes("40 GiB", ""), Bytes(42'949'672'960));  // 40 x 2^30
  EXPECT_EQ(parse_bytes("80GB", ""), Bytes(80'000'000'000));
  EXPECT_EQ(parse_bytes(" 1.5 KiB ", ""), Bytes(1536));
  EXPECT_EQ(parse_bytes("0", ""), Bytes(0));
}

TEST(ParseBytes, RefusesMoreThanFitsIntoABytesCount) {
  EXPECT_THAT(refusal(parse_bytes, "1e30 PB"), testing::HasSubstr("more than 2^63 bytes"));
}

TEST(ParseBandwidth, BitIsAnEighthOfAByte) {
  EXPECT_DOUBLE_EQ(parse_bandwidth("300 GB/s", "").count, 300e9);
  EXPECT_DOUBLE_EQ(parse_bandwidth("100 Gbit/s", "").count, 12.5e9);
  EXPECT_DOUBLE_EQ(parse_bandwidth("100 Gb/s", "").count, 12.5e9);
}

TEST(ParseDuration, KnowsUnitsFromPicosecondsToHours) {
  EXPECT_DOUBLE_EQ(parse_duration("8 us", "").count, 8e-6);
  EXPECT_DOUBLE_EQ(parse_duration("1.5ms", "").count, 1.5e-3);
  EXPECT_DOUBLE_EQ(parse_duration("10 min", "").count, 600);
}

TEST(ParseFlopRate, KnowsBothSpellings) {
  EXPECT_DOUBLE_EQ(parse_flop_rate("989 TFLOP/s", "").count, 989e12);
  EXPECT_DOUBLE_EQ(parse_flop_rate("312 TFLOPS", "").count, 312e12);
}

TEST(ParseQuantity, BareNumberIsRefusedWithPlaceExampleAndRemedy) {
  EXPECT_EQ(refusal(parse_bandwidth, "300"),
            "cluster.yaml:14: key 'bandwidth': expected a bandwidth with its unit, such as "
            "\"300 GB/s\" or \"100 Gbit/s\", got \"300\"; add the unit");
}

TEST(ParseQuantity, MisspeltUnitGetsASuggestion) {
  EXPECT_THAT(refusal(parse_bytes, "40 Gib"), testing::EndsWith("did you mean GiB?"));
  EXPECT_THAT(refusal(parse_bandwidth, "300 GB"), testing::EndsWith("did you mean GB/s?"));
}

TEST(ParseQuantity, UnknownUnitGetsTheList) {
  EXPECT_THAT(refusal(parse_duration, "3 fortnights"),
              testing::EndsWith("the units are ps, ns, us, ms, s, min, h"));
}

TEST(ParseQuantity, RefusesWhatIsNotAFiniteNonNegativeNumber) {
  EXPECT_THAT(refusal(parse_duration, "-3 s"), testing::HasSubstr("cannot be negative"));
  EXPECT_THAT(refusal(parse_duration, "fast"), testing::HasSubstr("got \"fast\""));
  EXPECT_THAT(refusal(parse_duration, ""), testing::HasSubstr("got \"\""));
  EXPECT_THAT(refusal(parse_duration, "inf s"), testing::HasSubstr("got \"inf s\""));
  EXPECT_THAT(refusal(parse_duration, "nan s"), testing::HasSubstr("got \"nan s\""));
  EXPECT_THAT(refusal(parse_bandwidth, "1e300 TB/s"), testing::EndsWith("that is too large"));
}

}  // namespace
}  // namespace shardwise
