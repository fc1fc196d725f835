// Writing and reading little-endian fields one after another, with bounds.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <utility>

#include "common/base/bytes.h"

namespace datacloud::watermark {

class FieldWriter {
 public:
  template <class Number>
  void number(Number value) {
    for (size_t i = 0; i < sizeof value; ++i)
      bytes_.push_back(static_cast<uint8_t>(static_cast<uint64_t>(value) >> (8 * i)));
  }
  void raw(ByteView view) { bytes_.insert(bytes_.end(), view.begin(), view.end()); }
  // A length of 32 bits, then the bytes.
  void sized(ByteView view) {
    number(static_cast<uint32_t>(view.size()));
    raw(view);
  }
  Bytes take() { return std::move(bytes_); }

 private:
  Bytes bytes_;
};

// After a read beyond the end, good() is false and everything read is zero.
class FieldReader {
 public:
  explicit FieldReader(ByteView view) : left_(view) {}
  template <class Number>
  Number number() {
    uint64_t value = 0;
    const ByteView bytes = raw(sizeof(Number));
    for (size_t i = 0; i < bytes.size(); ++i) value |= uint64_t{bytes[i]} << (8 * i);
    return static_cast<Number>(value);
  }
  ByteView raw(size_t length) {
    if (length > left_.size()) {
      good_ = false;
      left_ = {};
      return {};
    }
    const ByteView out = left_.first(length);
    left_ = left_.subspan(length);
    return out;
  }
  ByteView sized() { return raw(number<uint32_t>()); }
  template <size_t kSize>
  void copy(std::array<uint8_t, kSize>& to) {
    const ByteView bytes = raw(kSize);
    if (!bytes.empty()) std::memcpy(to.data(), bytes.data(), kSize);
  }
  bool good() const { return good_; }
  bool finished() const { return good_ && left_.empty(); }

 private:
  ByteView left_;
  bool good_ = true;
};

}  // namespace datacloud::watermark
