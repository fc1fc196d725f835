// How far a cloud's journal had come, as messages tell it: HelloReply.journal_position and the like
// (56 bytes: epoch number, nonce, sequence, little-endian u64, and the chain hash of the entry).
// Mounts only compare two of them; what they mean is daemon/journal/log_position.h.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string_view>

namespace datacloud {

struct JournalMark {
  uint64_t epoch = 0, nonce = 0, sequence = 0;
  std::string_view hash;  // of the bytes that were read

  // nullopt: it is none.
  static std::optional<JournalMark> read(std::string_view bytes) {
    if (bytes.size() != 56) return std::nullopt;
    const auto number = [&](size_t at) {
      uint64_t value = 0;
      for (size_t i = 8; i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
      return value;
    };
    return JournalMark{number(0), number(8), number(16), bytes.substr(24)};
  }
  std::strong_ordering order(const JournalMark& other) const {
    if (const auto o = epoch <=> other.epoch; o != 0) return o;
    if (const auto o = nonce <=> other.nonce; o != 0) return o;
    return sequence <=> other.sequence;
  }
};

// Whether a journal that has come to `now` lacks what `seen` says was committed: it ends before, or
// has another entry there. False where one of them says nothing.
inline bool lacks(std::string_view now, std::string_view seen) {
  const auto a = JournalMark::read(now), b = JournalMark::read(seen);
  if (!a || !b) return false;
  const auto order = a->order(*b);
  return order < 0 || (order == 0 && a->hash != b->hash);
}

}  // namespace datacloud
