// What the server of a site counts, for its metrics.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace datacloud {

// What a server has done since it started. Thread safety: any thread.
struct SiteCounters {
  static constexpr size_t kinds_max = 32;
  std::array<std::atomic<uint64_t>, kinds_max>
      requests{};                    // by the field number of StoreRequest.op
  std::atomic<uint64_t> refused{0};  // of these: not permitted, or before a hello
  std::atomic<uint64_t> received_bytes{0}, sent_bytes{0};
  std::atomic<uint64_t> window_bytes{0};       // of both: through shared memory
  std::atomic<uint64_t> connections{0};        // that were admitted
  std::atomic<uint64_t> local_connections{0};  // of these: by the socket of this machine
};

}  // namespace datacloud
