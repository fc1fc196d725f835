// The HTTP endpoint of metrics.h, by prometheus-cpp; the only file that knows it.
#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <prometheus/metric_family.h>

#include <exception>

#include "common/config/metrics_address.h"
#include "common/site/metrics.h"

namespace datacloud {
namespace {

// Label values are UTF-8 there; paths may be anything.
std::string ascii(const std::string& text) {
  std::string out = text;
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e) c = '?';
  }
  return out;
}

prometheus::MetricFamily convert(const MetricFamily& family) {
  prometheus::MetricFamily out;
  const bool counter = family.type == MetricFamily::Type::counter;
  out.name = family.name;
  out.help = family.help;
  out.type = counter ? prometheus::MetricType::Counter : prometheus::MetricType::Gauge;
  for (const auto& sample : family.samples) {
    prometheus::ClientMetric metric;
    for (const auto& [name, value] : sample.labels) metric.label.push_back({name, ascii(value)});
    (counter ? metric.counter.value : metric.gauge.value) = sample.value;
    out.metric.push_back(std::move(metric));
  }
  return out;
}

class Collector final : public prometheus::Collectable {
 public:
  explicit Collector(std::function<Metrics()> collect) : collect_(std::move(collect)) {}
  std::vector<prometheus::MetricFamily> Collect() const override {
    std::vector<prometheus::MetricFamily> out;
    for (const auto& family : collect_()) out.push_back(convert(family));
    return out;
  }

 private:
  const std::function<Metrics()> collect_;
};

class HttpExporter final : public MetricsExporter {
 public:
  HttpExporter(const std::string& address, std::function<Metrics()> collect)
      : collector_(std::make_shared<Collector>(std::move(collect))), exposer_(address, 2) {
    exposer_.RegisterCollectable(collector_);
  }

 private:
  std::shared_ptr<Collector> collector_;
  prometheus::Exposer exposer_;  // last: it stops before what it shows goes
};

}  // namespace

result<std::unique_ptr<MetricsExporter>> export_metrics(const std::string& address,
                                                        std::function<Metrics()> collect) {
  TRY(check_metrics_address(address));
  try {
    return std::unique_ptr<MetricsExporter>(
        std::make_unique<HttpExporter>(address, std::move(collect)));
  } catch (const std::exception& e) {  // the library's only way to say it
    return failure(Errc::io, "cannot serve metrics on " + address + " (" + e.what() +
                                 "); is the address of this machine, and free?");
  }
}

}  // namespace datacloud
