// The background work as a whole: paused, limited, shown.
#include "common/base/log.h"
#include "daemon/maintenance/maintenance.h"

namespace datacloud {

Answer Maintenance::background(const pb::BackgroundRequest& request) {
  if (request.has_pause()) {
    background_.pause(request.pause());
    spdlog::info("background work is {}", request.pause() ? "paused" : "running again");
  }
  if (request.has_site_bytes_per_second_max()) {
    background_.set_limit(request.site_bytes_per_second_max());
  }
  if (request.has_site_operations_per_second_max()) {
    background_.set_operations_limit(request.site_operations_per_second_max());
  }
  pb::AdminReply admin;
  describe_background(*admin.mutable_background());
  return std::optional(wrapped(admin));
}

void Maintenance::describe_background(pb::BackgroundReply& out) const {
  out.set_paused(background_.paused());
  out.set_site_bytes_per_second_max(background_.limit());
  out.set_site_operations_per_second_max(background_.operations_limit());
  for (const auto& window : deps_.config.background_windows) out.add_windows(window);
  out.set_window_open(background_.window_open());
  out.set_outside_bytes_per_second_max(background_.outside_limit());
}

}  // namespace datacloud
