// Sizes and times as people write them: "64MiB", "500ms".
#include <fmt/format.h>

#include <array>
#include <charconv>
#include <limits>
#include <string>
#include <string_view>

#include "common/config/config.h"

namespace datacloud {
namespace {

struct Unit {
  std::string_view name;
  uint64_t factor;
};
constexpr std::array kByteUnits = {Unit{"", 1},           Unit{"B", 1},
                                   Unit{"K", 1ull << 10}, Unit{"KiB", 1ull << 10},
                                   Unit{"M", 1ull << 20}, Unit{"MiB", 1ull << 20},
                                   Unit{"G", 1ull << 30}, Unit{"GiB", 1ull << 30},
                                   Unit{"T", 1ull << 40}, Unit{"TiB", 1ull << 40}};
constexpr std::array kTimeUnits = {Unit{"", 1},          Unit{"ms", 1},
                                   Unit{"s", 1000},      Unit{"min", 60'000},
                                   Unit{"h", 3'600'000}, Unit{"d", 86'400'000}};

// NUMBER [UNIT]: digits, optional spaces, one of the units.
template <size_t N>
result<uint64_t> parse_with_unit(const std::string& text, const std::array<Unit, N>& units,
                                 const char* hint) {
  const Error bad(Errc::invalid, fmt::format("\"{}\" is not {}", text.substr(0, 64), hint));
  uint64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [next, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc{}) return failure(bad);
  std::string_view unit(next, static_cast<size_t>(end - next));
  while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  for (const Unit& known : units) {
    if (unit != known.name) continue;
    if (number > std::numeric_limits<uint64_t>::max() / known.factor) return failure(bad);
    return number * known.factor;
  }
  return failure(bad);
}

}  // namespace

result<uint64_t> parse_bytes(const std::string& text) {
  return parse_with_unit(text, kByteUnits, "a size; write a number and KiB, MiB, GiB or TiB");
}

result<uint64_t> parse_milliseconds(const std::string& text) {
  return parse_with_unit(text, kTimeUnits, "a time; write a number and ms, s, min, h or d");
}

}  // namespace datacloud
