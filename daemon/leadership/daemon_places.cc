// See daemon_places.h.
#include "daemon/leadership/daemon_places.h"

#include <algorithm>
#include <tuple>

namespace datacloud {

void DaemonPlaces::set(std::vector<KnownDaemon> daemons) {
  std::sort(daemons.begin(), daemons.end(), [](const KnownDaemon& a, const KnownDaemon& b) {
    return std::tie(a.order, a.name) < std::tie(b.order, b.name);
  });
  if (daemons == daemons_) return;
  daemons_ = std::move(daemons);
  for (const auto& watcher : watchers_) watcher();
}

}  // namespace datacloud
