// The epoch that this state directory led last, noted beside the metadata: a daemon that is started
// again behind its own entries need not wait for a lease, since the process that held it is gone
// (the directory's lock says so).
//
// The note holds for this directory on this start of this machine: a copy elsewhere, or what was
// put back from a backup, proves nothing. It is an economy: without it the start waits.
#pragma once

#include <filesystem>

#include "daemon/journal/log_position.h"

namespace datacloud {

// Once the epoch serves. A failure is logged.
void note_led_epoch(const std::filesystem::path& state, const std::filesystem::path& metadata,
                    const journal::Epoch&);
bool was_led_here(const std::filesystem::path& state, const std::filesystem::path& metadata,
                  const journal::Epoch&);

}  // namespace datacloud
