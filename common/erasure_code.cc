// What all codes share: profile names and applying a delta.
#include "common/erasure_code.h"

#include <algorithm>
#include <cassert>
#include <charconv>

#include "common/reed_solomon.h"

namespace datacloud {
namespace {

constexpr int kColumnsMax = 32;

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
  return at != end && read_number(at, end, m) && at == end && k >= 1 && k <= kColumnsMax &&
         m <= kColumnsMax - k;
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
  int k = 0, m = 0;
  if (!parse_reed_solomon(profile, k, m))
    return failure(Errc::invalid,
                   "unknown erasure code \"" + profile.substr(0, 64) +
                       "\"; known are rs-K-M with K >= 1, M >= 0 and K + M <= 32, such as rs-3-2, "
                       "rs-2-1, rs-6-3, rs-4-2 or rs-10-4");
  return std::shared_ptr<const ErasureCode>(std::make_shared<ReedSolomon>(k, m));
}

}  // namespace datacloud
