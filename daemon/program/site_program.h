// `datacloudd --site NAME`: serves one directory site of this machine to the nodes of its cloud
// (docs/nodes.md, "Served sites"). No metadata, no data key; the service key only on the daemon's
// machine.
#pragma once

#include <functional>
#include <string>

#include "common/base/service_notifier.h"
#include "common/config/config.h"

namespace datacloud {

// Blocks SIGTERM and SIGINT in the calling thread; one of them ends it. `ready` runs once it
// serves. invalid names what the configuration lacks.
result<void> serve_site(const Config&, const std::string& site, const ServiceNotifier&,
                        const std::function<void()>& ready);

}  // namespace datacloud
