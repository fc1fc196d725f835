// The numbers of a site's server (`datacloudd --site`) as metrics.
#pragma once

#include "common/site/metrics.h"
#include "common/store/remote/site_server.h"

namespace datacloud {

// `started_s`: seconds since 1970. Any thread.
Metrics site_server_metrics(const SiteServer&, const std::string& cloud, const std::string& site,
                            double started_s);

}  // namespace datacloud
