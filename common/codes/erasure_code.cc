// What all codes share: profile names and applying a delta.
#include "common/codes/erasure_code.h"

#include <algorithm>
#include <cassert>
#include <charconv>

#include "common/codes/linear_code.h"

namespace datacloud {
namespace {

// Reads a decimal without sign or leading zero; every profile has exactly one name.
bool read_number(const char*& at, const char* end, int& value) {
  const char* start = at;
  const auto [next, error] = std::from_chars(at, end, value);
  if (error != std::errc{} || *start == '-' || (*start == '0' && next - start > 1)) return false;
  at = next;
  return true;
}

bool parse_reed_solomon(const std::string& profile, int& k, int& m) {
  if (!profile.starts_with("rs-")) return false;
  const char* at = profile.data() + 3;
  const char* end = profile.data() + profile.size();
  if (!read_number(at, end, k) || at == end || *at++ != '-') return false;
  return at != end && read_number(at, end, m) && at == end && k >= 1 && k <= kCodeColumnsMax &&
         m <= kCodeColumnsMax - k;
}

}  // namespace

void ErasureCode::apply_delta(ByteView delta, MutableByteView target) {
  assert(delta.size() == target.size());
  uint8_t* __restrict to = target.data();
  const uint8_t* __restrict from = delta.data();
  const size_t length = std::min(delta.size(), target.size());
  for (size_t i = 0; i < length; ++i) to[i] ^= from[i];
}

result<std::shared_ptr<const ErasureCode>> make_erasure_code(const std::string& profile) {
  const auto made = [](CodeDefinition definition) {
    return std::shared_ptr<const ErasureCode>(std::make_shared<LinearCode>(std::move(definition)));
  };
  if (int k = 0, m = 0; parse_reed_solomon(profile, k, m)) return made(reed_solomon_code(k, m));
  if (profile == "basic-4-8") return made(basic_code(4));
  if (profile == "basic-6-12") return made(basic_code(6));
  if (profile == "basic-8-16") return made(basic_code(8));
  if (profile == "msr-5-3") return made(msr_code(5, 3));
  if (profile == "msr-8-4") return made(msr_code(8, 4));
  return failure(Errc::invalid,
                 "unknown erasure code \"" + profile.substr(0, 64) +
                     "\"; known are rs-K-M with K >= 1, M >= 0 and K + M <= 32, such as rs-3-2, "
                     "rs-2-1, rs-6-3, rs-4-2 or rs-10-4, and basic-4-8, basic-6-12, basic-8-16, "
                     "msr-5-3 and msr-8-4");
}

}  // namespace datacloud
