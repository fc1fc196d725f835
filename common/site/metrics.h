// Numbers for Prometheus: families of samples, and the HTTP endpoint /metrics that shows them.
//
// Names follow Prometheus' conventions: datacloud_ first, base units (bytes, seconds) at the end,
// _total for what only grows. They are an interface (docs/operations.md, "Metrics"): dashboards and
// alerts use them, and a test compares them all.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/error.h"
#include "common/site/site_set.h"

namespace datacloud {

struct MetricFamily {
  enum class Type { counter, gauge };
  using Labels = std::vector<std::pair<std::string, std::string>>;  // any bytes as values
  struct Sample {
    Labels labels;
    double value = 0;
  };

  std::string name;
  std::string help;
  Type type = Type::gauge;
  std::vector<Sample> samples;
};
using Metrics = std::vector<MetricFamily>;

// Three families of a process's traffic per site and purpose: PREFIX_read_bytes_total,
// PREFIX_written_bytes_total, PREFIX_operations_total, with labels site and purpose.
class TrafficFamilies {
 public:
  explicit TrafficFamilies(const std::string& prefix);
  void add(const std::string& site, Purpose, const TrafficCounters::Row&);
  void move_to(Metrics&);

 private:
  MetricFamily read_, written_, operations_;
};

// Serves /metrics until destroyed. `collect` runs on threads of the exporter, several at once; its
// answer may be empty when there is none in time. Plain HTTP for whoever reaches the address: bind
// it to the loopback or a network of administrators.
class MetricsExporter {
 public:
  virtual ~MetricsExporter() = default;
};
result<std::unique_ptr<MetricsExporter>> export_metrics(const std::string& address,
                                                        std::function<Metrics()> collect);

}  // namespace datacloud
