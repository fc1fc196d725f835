// Where the numbers for Prometheus are served, as configuration and mount options name it.
#pragma once

#include <string>

#include "common/base/error.h"

namespace datacloud {

// "HOST:PORT" with a numeric address, IPv6 in brackets; everything else is refused with the remedy.
result<void> check_metrics_address(const std::string&);

}  // namespace datacloud
