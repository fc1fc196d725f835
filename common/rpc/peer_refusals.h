// Why peers over TLS are turned away, counted.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace datacloud {

enum class Refusal {
  handshake,       // no TLS 1.3, another protocol, or broken off
  slow,            // the handshake, or the first request, took too long
  too_many,        // connections or handshakes
  no_certificate,  // none was shown
  foreign,         // a certificate of another authority
  wrong_cloud,     // of another cloud's authority
  wrong_role,      // not one of a node, or roles that it does not have any more
  expired,
  revoked,     // or not known
  invitation,  // a line that was used, has expired or was withdrawn
};
inline constexpr size_t kRefusalCount = 10;

inline const char* refusal_name(Refusal refusal) {
  constexpr std::array<const char*, kRefusalCount> names = {
      "handshake",   "slow",       "too-many", "no-certificate", "foreign",
      "wrong-cloud", "wrong-role", "expired",  "revoked",        "invitation"};
  return names[static_cast<size_t>(refusal)];
}

// Thread safety: any thread.
class PeerRefusals {
 public:
  void count(Refusal refusal) { counts_[static_cast<size_t>(refusal)]++; }
  uint64_t of(Refusal refusal) const { return counts_[static_cast<size_t>(refusal)]; }

 private:
  std::array<std::atomic<uint64_t>, kRefusalCount> counts_{};
};

}  // namespace datacloud
