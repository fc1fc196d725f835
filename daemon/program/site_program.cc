// See site_program.h.
#include "daemon/program/site_program.h"

#include <fmt/format.h>
#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "common/base/log.h"
#include "common/config/node_certificate.h"
#include "common/proto/admin.pb.h"
#include "common/site/daemon_finder.h"
#include "common/site/site_set.h"
#include "common/store/remote/site_credentials.h"
#include "common/store/remote/site_server.h"
#include "common/tls/organisation.h"
#include "daemon/journal/served_log.h"
#include "daemon/journal/site_logs.h"
#include "daemon/program/site_metrics.h"

namespace datacloud {
namespace {

constexpr Duration kTick = seconds(1);
constexpr Duration kRenewalAttempts = seconds(600);  // between looks at the certificate's age
constexpr int kKeptBytesMax =
    64 << 20;  // of freed objects: pages are not asked for again each time

result<SiteConfig> find_site(const Config& config, const std::string& name) {
  const auto site = std::find_if(config.sites.begin(), config.sites.end(),
                                 [&](const auto& s) { return s.name == name; });
  if (site == config.sites.end())
    return failure(Errc::invalid,
                   fmt::format("{}: no [[site]] is named \"{}\"", config.file.string(), name));
  if (site->store != "directory" || site->serve.empty())
    return failure(Errc::invalid,
                   fmt::format("{}: site {} cannot be served: it needs store = \"directory\", its "
                               "path, and serve = \"tls://HOST:PORT\"",
                               config.file.string(), name));
  return *site;
}

constexpr Duration kDaemonPatience = seconds(3);

// As the tool does it.
result<std::unique_ptr<RpcClient>> connect_to_daemon(const Config& config) {
  RpcClient::Options options;
  find_daemon(config, FindsFor::site_server, options);
  options.kind = pb::CLIENT_TOOL;
  options.deadline = kDaemonPatience;
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) == 0) options.session.set_host(host.data());
  options.session.set_pid(static_cast<uint32_t>(::getpid()));
  options.session.set_version(DATACLOUD_VERSION);
  pb::HelloReply hello;
  return connect_rpc(std::move(options), &hello);
}

result<void> renew(const Config& config) {
  TRY(const auto client, connect_to_daemon(config));
  TRY(renew_node_certificate(config.node, *client));
  return success();
}

// The serial numbers of the certificates in force, by one connection that lasts while it can; and
// whose those are that an organisation has signed, known by their SHA-256.
result<NodesInForce::Serials> ask_in_force(const Config& config, std::unique_ptr<RpcClient>& client,
                                           CertifiedNodes& certified) {
  if (!client) {
    TRY(client, connect_to_daemon(config));
  }
  pb::AdminRequest asked;
  asked.mutable_node()->set_action(pb::NODE_LIST);
  pb::Request request;
  request.set_admin(asked.SerializeAsString());
  const auto reply = client->call(std::move(request));
  pb::AdminReply answer;
  if (!reply || !answer.ParseFromString(reply.value().admin())) {
    client.reset();
    return failure(reply ? Error(Errc::corrupt, "its answer does not parse") : reply.error());
  }
  NodesInForce::Serials serials;
  CertifiedNodes::Nodes by_fingerprint;
  for (const auto& listed : answer.node().nodes()) {
    const auto& node = listed.node();
    const auto roles =
        NodeRoles::parse(std::vector<std::string>(node.roles().begin(), node.roles().end()));
    for (const auto& certificate : node.certificates()) {
      const Bytes serial = to_bytes(as_bytes(certificate.serial()));
      serials.insert(serial);
      if (serial.size() == kFingerprintBytes && roles)
        by_fingerprint[serial] = {node.name(), roles.value()};
    }
  }
  certified.set(std::move(by_fingerprint));
  return serials;
}

sigset_t end_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

}  // namespace

result<void> serve_site(const Config& config, const std::string& name,
                        const ServiceNotifier& notifier, const std::function<void()>& ready) {
  const sigset_t signals = end_signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  (void)::mallopt(M_MMAP_THRESHOLD, kKeptBytesMax);
  (void)::mallopt(M_TRIM_THRESHOLD, 2 * kKeptBytesMax);
  TRY(const auto site, find_site(config, name));
  TRY(auto opened, SiteCertificate::open(config, name));
  const auto certificate = std::make_shared<SiteCertificate>(std::move(opened));
  SiteServerOptions options;
  options.cloud_uuid = certificate->cloud_uuid();
  options.site = name;
  options.listen = {site.serve};
  if (site.window_bytes) options.limits.window_bytes_max = *site.window_bytes;
  options.context = [certificate] { return certificate->context(); };
  options.open = [site](const SiteMarker& marker) { return open_store(site, marker); };
  options.marker = [site] { return read_store_marker(site); };
  options.format = [site](const SiteMarker& marker) { return format_store(site, marker); };
  options.certified = std::make_shared<CertifiedNodes>();
  NodesInForce::Options asking;
  asking.ask = [config, client = std::make_shared<std::unique_ptr<RpcClient>>(),
                certified = options.certified] {
    return ask_in_force(config, *client, *certified);
  };
  options.nodes = std::make_shared<NodesInForce>(std::move(asking));
  // The journal's, beside the objects; destroyed after the server.
  journal::LogServiceOptions logs;
  logs.open = [site](const SiteMarker& marker, const journal::JournalId& id) {
    return journal::open_site_log(site, marker, id, journal::kSegmentBytesDefault);
  };
  logs.format = [site](const SiteMarker& marker, const journal::JournalId& id) {
    return journal::format_site_log(site, marker, id, journal::kSegmentBytesDefault);
  };
  const auto log_service = journal::make_log_service(std::move(logs));
  options.log = log_service.get();
  TRY(const auto server, SiteServer::start(std::move(options)));

  std::unique_ptr<MetricsExporter> exporter;
  if (!site.metrics.empty()) {
    TRY(exporter,
        export_metrics(site.metrics, [&server = *server, cloud = config.cloud.name, name,
                                      started_s = static_cast<double>(wall_now_ns()) / 1e9] {
          return site_server_metrics(server, cloud, name, started_s);
        }));
  }

  const auto marker = read_store_marker(site);
  if (!marker) spdlog::warn("site {} is away: {}", name, marker.error().message());
  const std::string status = fmt::format("site {} of the cloud {}: {} at {}", name,
                                         config.cloud.name, site.path.string(), site.serve);
  spdlog::info("serving {}", status);
  ready();
  notifier.ready(status);
  auto look_at = monotonic_now();
  const timespec tick{std::chrono::duration_cast<seconds>(kTick).count(), 0};
  for (;;) {
    const int signal = ::sigtimedwait(&signals, nullptr, &tick);
    if (signal > 0) {
      spdlog::info("stopping (signal {})", signal);
      notifier.stopping();
      return success();
    }
    if (notifier.watchdog_interval() > Duration{}) notifier.alive();
    if (monotonic_now() < look_at) continue;
    look_at = monotonic_now() + kRenewalAttempts;
    if (!renewal_is_due(config.node)) continue;
    if (auto renewed = renew(config); !renewed)
      spdlog::warn("the certificate of site {} was not renewed: {}", name, renewed.error().text());
    else
      spdlog::info("the certificate of site {} was renewed", name);
  }
}

}  // namespace datacloud
