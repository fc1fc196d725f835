// Small files that hold a key: written once, whole and durable, readable by their owner alone.
//
// `name` is what errors call the file, as in "the data key file". Any thread.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

#include "common/base/error.h"

namespace datacloud {

// Mode 0600, durable when this returns. A crash never leaves a part under the path, and a file
// that exists is never replaced: Errc::exists. Other errors are of the system.
result<void> write_secret_file(const std::filesystem::path&, std::string_view text,
                               const std::string& name);

// At most bytes_max bytes of it; the caller cleanses them. Errc::invalid: it cannot be opened (then
// with `absent` as the remedy if it does not exist), is no regular file, or others may read it.
result<std::string> read_secret_file(const std::filesystem::path&, size_t bytes_max,
                                     const std::string& name, const std::string& absent);

}  // namespace datacloud
