// Little-endian fields of the journal's formats.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>

#include "common/base/bytes.h"
#include "daemon/journal/log_position.h"

namespace datacloud::journal {

template <class T>
void put_number(MutableByteView out, size_t offset, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) out[offset + i] = static_cast<uint8_t>(value >> (8 * i));
}
template <class T>
T get_number(ByteView in, size_t offset) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value |= static_cast<T>(T{in[offset + i]} << (8 * i));
  return value;
}
template <size_t n>
void put_array(MutableByteView out, size_t offset, const std::array<uint8_t, n>& value) {
  std::copy(value.begin(), value.end(), out.begin() + static_cast<std::ptrdiff_t>(offset));
}
template <size_t n>
std::array<uint8_t, n> get_array(ByteView in, size_t offset) {
  std::array<uint8_t, n> value{};
  std::memcpy(value.data(), in.data() + offset, n);
  return value;
}

inline bool all_zero(ByteView bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t b) { return b == 0; });
}
inline size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

inline constexpr size_t kPositionBytes = 56;  // epoch number, nonce, sequence, hash
inline void put_position(MutableByteView out, size_t offset, const LogPosition& p) {
  put_number(out, offset, p.epoch.number);
  put_number(out, offset + 8, p.epoch.nonce);
  put_number(out, offset + 16, p.sequence);
  put_array(out, offset + 24, p.hash);
}
inline LogPosition get_position(ByteView in, size_t offset) {
  return {{get_number<uint64_t>(in, offset), get_number<uint64_t>(in, offset + 8)},
          get_number<uint64_t>(in, offset + 16),
          get_array<32>(in, offset + 24)};
}

}  // namespace datacloud::journal
