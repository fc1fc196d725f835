// Logging: spdlog with our pattern. Programs call start_logging once; libraries use log_* which
// are rate limited per call site by the caller where a peer can trigger them.
#pragma once

#include <spdlog/spdlog.h>

#include <string>

namespace datacloud {

// `program` goes into every line. To stderr; with `file` not empty also appended there.
void start_logging(const std::string& program, const std::string& file, bool verbose);

}  // namespace datacloud
