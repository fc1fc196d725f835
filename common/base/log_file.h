// A log file that outlives a full disk: lines that cannot be written are counted, the program goes
// on, and the first line that fits again says how many are missing and why. Every line in the file
// is whole, but for the beginning of the first one that did not fit.
//
// Thread safety: as all sinks of spdlog.
#pragma once

#include <spdlog/sinks/sink.h>

#include <memory>
#include <string>

#include "common/base/error.h"

namespace datacloud {

// Appends to the file, which is made if need be.
result<std::shared_ptr<spdlog::sinks::sink>> open_log_file(const std::string& path);

}  // namespace datacloud
