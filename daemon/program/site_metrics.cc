// From a site server's counters to metrics (site_metrics.h).
#include "daemon/program/site_metrics.h"

#include "common/proto/store.pb.h"

namespace datacloud {
namespace {

using Type = MetricFamily::Type;

double number(uint64_t value) { return static_cast<double>(value); }

MetricFamily one(std::string name, std::string help, double value, Type type = Type::gauge) {
  return {std::move(name), std::move(help), type, {{{}, value}}};
}

}  // namespace

Metrics site_server_metrics(const SiteServer& server, const std::string& cloud,
                            const std::string& site, double started_s) {
  const SiteCounters& counters = server.counters();
  Metrics out;
  out.push_back({"datacloud_site_server_info",
                 "Always 1; which site of which cloud, and the server's version",
                 Type::gauge,
                 {{{{"cloud", cloud}, {"site", site}, {"version", DATACLOUD_VERSION}}, 1}}});
  out.push_back(one("datacloud_site_server_start_time_seconds",
                    "When the site's server was started", started_s));
  out.push_back(one("datacloud_site_server_connections", "Connections to the site's server",
                    number(server.connections())));
  out.push_back(one("datacloud_site_server_connections_total",
                    "Connections that the site's server has admitted", number(counters.connections),
                    Type::counter));
  MetricFamily requests{"datacloud_site_server_requests_total",
                        "Requests to the site's server, by kind",
                        Type::counter,
                        {}};
  const auto* op = pb::StoreRequest::descriptor()->FindOneofByName("op");
  for (int i = 0; i < op->field_count(); ++i) {
    const auto kind = static_cast<size_t>(op->field(i)->number());
    if (kind >= SiteCounters::kinds_max) continue;
    requests.samples.push_back({{{"kind", op->field(i)->name()}}, number(counters.requests[kind])});
  }
  out.push_back(std::move(requests));
  out.push_back(one("datacloud_site_server_refused_requests_total",
                    "Requests that the node's role does not permit", number(counters.refused),
                    Type::counter));
  out.push_back(one("datacloud_site_server_requests_running", "Requests not answered yet",
                    number(server.requests())));
  out.push_back(one("datacloud_site_server_held_bytes", "Memory held for requests and answers",
                    number(server.bytes())));
  out.push_back(one("datacloud_site_server_received_bytes_total", "Bytes received from nodes",
                    number(counters.received_bytes), Type::counter));
  out.push_back(one("datacloud_site_server_sent_bytes_total", "Bytes sent to nodes",
                    number(counters.sent_bytes), Type::counter));
  MetricFamily refused{"datacloud_site_server_peers_refused_total",
                       "Connections to the site's server that were turned away, by reason",
                       Type::counter,
                       {}};
  for (size_t i = 0; i < kRefusalCount; ++i) {
    const auto reason = static_cast<Refusal>(i);
    refused.samples.push_back(
        {{{"reason", refusal_name(reason)}}, number(server.refusals().of(reason))});
  }
  out.push_back(std::move(refused));
  return out;
}

}  // namespace datacloud
