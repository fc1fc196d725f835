// What metrics of daemon and mount have in common (metrics.h).
#include "common/site/metrics.h"

#include <utility>

namespace datacloud {

TrafficFamilies::TrafficFamilies(const std::string& prefix)
    : read_{prefix + "_read_bytes_total",
            "Bytes read from the site",
            MetricFamily::Type::counter,
            {}},
      written_{prefix + "_written_bytes_total",
               "Bytes written to the site",
               MetricFamily::Type::counter,
               {}},
      operations_{
          prefix + "_operations_total", "Calls to the site", MetricFamily::Type::counter, {}} {}

void TrafficFamilies::add(const std::string& site, Purpose purpose,
                          const TrafficCounters::Row& row) {
  const MetricFamily::Labels labels = {{"site", site}, {"purpose", purpose_name(purpose)}};
  read_.samples.push_back({labels, static_cast<double>(row.bytes_read)});
  written_.samples.push_back({labels, static_cast<double>(row.bytes_written)});
  operations_.samples.push_back({labels, static_cast<double>(row.operations)});
}

void TrafficFamilies::move_to(Metrics& metrics) {
  for (auto* family : {&read_, &written_, &operations_}) metrics.push_back(std::move(*family));
}

}  // namespace datacloud
